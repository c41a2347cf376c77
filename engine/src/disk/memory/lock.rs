//! The lock on a file in memory, as `flock` on a descriptor is for a real one: whoever opens a file waits for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// One file's lock.
#[derive(Default)]
pub(crate) struct FileLock {
    is_held: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

/// Holds the lock until the last clone is dropped. A write in flight keeps a clone: it outlives its process.
#[derive(Clone)]
pub(crate) struct LockGuard {
    _hold: Rc<Hold>,
}

struct Hold {
    lock: Rc<FileLock>,
}

impl FileLock {
    /// Waits until nobody holds the lock, and takes it.
    pub(crate) async fn acquire(lock: Rc<Self>) -> LockGuard {
        poll_fn(|context| {
            if lock.is_held.replace(true) {
                lock.waiters.borrow_mut().push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        LockGuard { _hold: Rc::new(Hold { lock }) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let was_held = self.lock.is_held.replace(false);
        assert!(was_held);
        // All are woken, the first to run wins: which one that is, the contract leaves open.
        for waiter in self.lock.waiters.take() {
            waiter.wake();
        }
    }
}
