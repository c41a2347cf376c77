//! Compares passwords with hashes, one after the other for each core, on a thread that is not the core's.

use std::rc::Rc;

use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;

use super::Front;

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Answers the core for each password it has handed out.
    pub(super) async fn run_passwords(self: Rc<Self>) {
        loop {
            self.password_bell.wait().await;
            loop {
                let next = self.passwords.borrow_mut().pop_front();
                let Some((id, check)) = next else { break };
                let found = glommio::executor().spawn_blocking(move || check.run()).await;
                self.with_core(|core, now| core.password_checked(id, found, now));
            }
        }
    }
}
