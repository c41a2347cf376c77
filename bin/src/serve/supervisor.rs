//! What the main thread does while executors serve: it hears them and signals, and knows when the process ends.
//!
//! ```text
//! SIGTERM, SIGINT   commit what is open, then end; a second one changes nothing
//! SIGUSR1           open the log file anew
//! SIGUSR2           lame duck mode, then as SIGTERM
//! SIGHUP            read the configuration anew
//! ```

use std::io;
use std::sync::mpsc::{Receiver, Sender};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use weirlog_engine::types::Timestamp;

use super::addresses::Addresses;
use super::course::{Course, Phase};
use super::error::ServeError;
use super::ports_file::PortsFile;
use crate::log::{Level, Log, Part};

/// What the main thread hears of.
pub(super) enum Event {
    /// Clients can come in.
    Listening,
    /// A core cannot run.
    Failed(ServeError),
    /// No client of a core is left in lame duck mode.
    LameDuckOver,
    /// The process got this signal.
    Signal(i32),
}

/// A core that panics has broken a promise; the others must not go on without it.
pub(super) fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}

/// Starts a thread that turns signals into events.
pub(super) fn hear_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
    let forward = move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                break;
            }
        }
    };
    std::thread::Builder::new().name("weirlog-signals".to_owned()).spawn(forward)?;
    Ok(())
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing was promised to anybody yet: there is nothing to wait for.
    BeforeStart,
    /// The executors have to commit what is open.
    Orderly,
}

/// Watches over the executors.
pub(super) struct Supervisor {
    log: Log,
    course: Course,
    /// Cores that have clients in lame duck mode.
    lame_ducks: u16,
    start: Start,
    is_listening: bool,
}

/// What happens once clients can come in.
pub(super) struct Start {
    /// Nobody else is about to listen there any more.
    pub(super) addresses: Addresses,
    /// The log says it.
    pub(super) ready_line: String,
    /// Written, and gone with the supervisor.
    pub(super) ports_file: PortsFile,
}

impl Supervisor {
    /// Over so many cores.
    pub(super) fn new(log: Log, course: Course, core_count: u16, start: Start) -> Self {
        Self { log, course, lame_ducks: core_count, start, is_listening: false }
    }

    /// Hears events until one of them ends the process.
    pub(super) fn watch(
        mut self,
        inbox: &Receiver<Event>,
        clock: impl Fn() -> Timestamp,
        reload: impl Fn(),
    ) -> Result<End, ServeError> {
        while let Ok(event) = inbox.recv() {
            if matches!(event, Event::Signal(SIGHUP)) {
                reload();
                continue;
            }
            if let Some(end) = self.on_event(event, clock())? {
                return Ok(end);
            }
        }
        Err(ServeError::Executor("all executors have ended".to_owned()))
    }

    fn on_event(&mut self, event: Event, now: Timestamp) -> Result<Option<End>, ServeError> {
        match event {
            Event::Failed(error) => return Err(error),
            Event::Listening => {
                assert!(!self.is_listening, "one core listens, once");
                self.is_listening = true;
                self.start.addresses.release();
                self.start.ports_file.write()?;
                self.log.info(now, &self.start.ready_line);
            }
            Event::LameDuckOver => {
                assert!(self.course.phase() != Phase::Serving, "no lame duck without a signal");
                self.lame_ducks -= 1;
                if self.lame_ducks == 0 {
                    self.log.info(now, "Lame duck mode is over, shutting down");
                    return Ok(Some(End::Orderly));
                }
            }
            Event::Signal(SIGTERM | SIGINT) if !self.is_listening => {
                return Ok(Some(End::BeforeStart));
            }
            Event::Signal(SIGTERM | SIGINT) => {
                self.log.info(now, "Shutting down");
                return Ok(Some(End::Orderly));
            }
            Event::Signal(SIGUSR1) => self.log.reopen(now),
            Event::Signal(SIGUSR2) => {
                if self.course.advance(Phase::LameDuck) {
                    let text = "Entering lame duck mode, stop accepting new clients";
                    self.log.write(now, Level::Info, Part::Server, text);
                }
            }
            Event::Signal(other) => unreachable!("signal {other} is not asked for"),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LogOptions;

    const NOW: Timestamp = Timestamp(0);

    fn supervisor(core_count: u16) -> (Supervisor, Course, crate::log::LogThread) {
        let (log, thread) = Log::start(42, &LogOptions::default()).unwrap();
        let course = Course::new();
        let start = Start {
            addresses: Addresses::default(),
            ready_line: "ready".to_owned(),
            ports_file: PortsFile::new(None, None, &[]),
        };
        (Supervisor::new(log, course.clone(), core_count, start), course, thread)
    }

    #[test]
    fn a_signal_before_the_start_ends_at_once_and_later_in_order() {
        for signal in [SIGTERM, SIGINT] {
            let (mut supervisor, _, _thread) = supervisor(1);
            let mut on = |event| supervisor.on_event(event, NOW);
            assert_eq!(on(Event::Signal(signal)), Ok(Some(End::BeforeStart)));
            assert_eq!(on(Event::Listening), Ok(None));
            assert_eq!(on(Event::Signal(signal)), Ok(Some(End::Orderly)));
        }
    }

    #[test]
    fn a_lame_duck_ends_when_the_last_core_has_no_client() {
        let (mut supervisor, course, _thread) = supervisor(2);
        let mut on = |event| supervisor.on_event(event, NOW);
        assert_eq!(on(Event::Listening), Ok(None));
        assert_eq!(course.phase(), Phase::Serving);
        for _ in 0..2 {
            assert_eq!(on(Event::Signal(SIGUSR2)), Ok(None));
            assert_eq!(course.phase(), Phase::LameDuck);
        }
        assert_eq!(on(Event::LameDuckOver), Ok(None));
        assert_eq!(on(Event::LameDuckOver), Ok(Some(End::Orderly)));
    }

    #[test]
    fn a_hangup_reads_the_configuration_again() {
        let (supervisor, course, _thread) = supervisor(1);
        let (events, inbox) = std::sync::mpsc::channel();
        for event in [Event::Listening, Event::Signal(SIGHUP), Event::Signal(SIGTERM)] {
            events.send(event).unwrap();
        }
        let reloads = std::cell::Cell::new(0);
        let end = supervisor.watch(&inbox, || NOW, || reloads.set(reloads.get() + 1));
        assert_eq!((end, reloads.get()), (Ok(End::Orderly), 1));
        assert_eq!(course.phase(), Phase::Serving);
    }

    #[test]
    fn other_signals_end_nothing_and_a_failure_everything() {
        let (mut supervisor, course, _thread) = supervisor(1);
        let mut on = |event| supervisor.on_event(event, NOW);
        assert_eq!(on(Event::Signal(SIGUSR1)), Ok(None));
        assert_eq!(course.phase(), Phase::Serving);
        let error = ServeError::Payload(1);
        assert_eq!(on(Event::Failed(error.clone())), Err(error));
    }
}
