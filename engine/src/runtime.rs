//! The edge to an executor: spawn and time. glommio implements it in `disk/dma.rs`, the simulator in
//! `sim/executor.rs`; all else is generic over it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::types::Now;

/// One core's executor: single threaded, so nothing needs to be `Send`.
pub trait Runtime: Clone + 'static {
    /// Runs `task` to its end, detached: nobody can drop it, so a write is never cancelled.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    /// Returns after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Reads both clocks.
    fn now(&self) -> Now;
}

/// Wakes one waiting task; rings while nobody waits are remembered as one.
#[derive(Clone, Default)]
pub struct Doorbell {
    inner: Rc<DoorbellState>,
}

#[derive(Default)]
struct DoorbellState {
    is_rung: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Doorbell {
    /// Makes the present or the next [`Doorbell::wait`] return.
    pub fn ring(&self) {
        if self.inner.is_rung.replace(true) {
            return;
        }
        if let Some(waiter) = self.inner.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Returns when the bell was rung since the last return. One task at a time may wait.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.inner.is_rung.replace(false) {
                return Poll::Ready(());
            }
            *self.inner.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
