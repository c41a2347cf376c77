//! The thread that writes the log, and the bounded queue to it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use weirlog_engine::types::Timestamp;

use super::line::LineStyle;
use super::sink::{Reopened, Sink};
use super::{Level, Part};
use crate::args::LogOptions;

/// Records that wait to be written. More are dropped: a server that waits for its log would not serve.
const QUEUE_COUNT: usize = 4096;
/// Bytes of text that wait to be written, for trace lines can be long.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// An order finds the queue full this often before it is given up: two seconds.
const ORDER_TRIES_COUNT_MAX: u32 = 200;
/// The pause between two tries.
const ORDER_INTERVAL: Duration = Duration::from_millis(10);
/// At the end the thread has this long for what waits; a pipe that nobody reads must not keep the process.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// When it happened.
    pub(super) now: Timestamp,
    /// How much it matters.
    pub(super) level: Level,
    /// Who logs.
    pub(super) part: Part,
    /// Anything.
    pub(super) text: String,
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    Write(Record),
    Reopen(Timestamp),
    /// Write no more, and say when.
    Finish(SyncSender<()>),
}

/// The near end of the queue.
#[derive(Debug)]
pub(super) struct Queue {
    sender: SyncSender<Job>,
    counters: Arc<Counters>,
}

/// What both ends of the queue count.
#[derive(Debug, Default)]
struct Counters {
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    /// Adds a record, or drops and counts it if there is no room.
    pub(super) fn offer(&self, record: Record) {
        let length = record.text.len();
        let Counters { waiting_bytes, dropped } = &*self.counters;
        let is_full = waiting_bytes.fetch_add(length, Ordering::Relaxed) + length > QUEUE_BYTES_MAX;
        if is_full || self.sender.try_send(Job::Write(record)).is_err() {
            waiting_bytes.fetch_sub(length, Ordering::Relaxed);
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds an order, and tells whether there was room in time. It waits for that: no executor may call it.
    pub(super) fn order(&self, mut job: Job) -> bool {
        for _ in 0..ORDER_TRIES_COUNT_MAX {
            match self.sender.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) => job = back,
                Err(TrySendError::Disconnected(_)) => return false,
            }
            thread::sleep(ORDER_INTERVAL);
        }
        false
    }
}

/// The log's thread. When it is dropped, what was logged before is written.
#[derive(Debug)]
pub(crate) struct LogThread {
    queue: Arc<Queue>,
}

impl LogThread {
    /// Opens the log and starts the thread.
    pub(super) fn start(process_id: u32, options: &LogOptions) -> io::Result<(Arc<Queue>, Self)> {
        let sink = Sink::open(process_id, options)?;
        let style = LineStyle {
            process_id,
            format: options.format,
            is_time_shown: options.is_time_shown,
            zone: TimeZone::system(),
        };
        let (sender, inbox) = sync_channel(QUEUE_COUNT);
        let counters = Arc::new(Counters::default());
        let writer = Writer { sink, style, counters: counters.clone() };
        thread::Builder::new().name("weirlog-log".to_owned()).spawn(move || writer.run(&inbox))?;
        let queue = Arc::new(Queue { sender, counters });
        Ok((queue.clone(), Self { queue }))
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let (finished, end) = sync_channel(1);
        if self.queue.order(Job::Finish(finished)) {
            // Whether it ended or not, the process does.
            let _ = end.recv_timeout(FINISH_TIMEOUT);
        }
    }
}

/// The far end of the queue.
struct Writer {
    sink: Sink,
    style: LineStyle,
    counters: Arc<Counters>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            match job {
                Job::Write(record) => {
                    self.counters.waiting_bytes.fetch_sub(record.text.len(), Ordering::Relaxed);
                    self.tell_dropped(record.now);
                    self.write(&record);
                }
                Job::Reopen(now) => self.reopen(now),
                Job::Finish(finished) => {
                    // Nobody listens if it took too long.
                    let _ = finished.send(());
                    return;
                }
            }
        }
    }

    fn write(&mut self, record: &Record) {
        match self.sink.write(&self.style, record) {
            Ok(None) => {}
            Ok(Some(moved)) => {
                let text =
                    format!("Rotated log, backup saved as {:?}", moved.display().to_string());
                self.note(record.now, Level::Info, text);
            }
            // There is nowhere to say so but later, here.
            Err(_) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Writes a line of the log about itself.
    fn note(&mut self, now: Timestamp, level: Level, text: String) {
        let record = Record { now, level, part: Part::Server, text };
        if self.sink.write(&self.style, &record).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many records were lost, if any were and this one can be written.
    fn tell_dropped(&mut self, now: Timestamp) {
        let count = self.counters.dropped.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let text = format!("{count} log lines were lost: the log could not take them");
        let record = Record { now, level: Level::Warning, part: Part::Server, text };
        if self.sink.write(&self.style, &record).is_err() {
            self.counters.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn reopen(&mut self, now: Timestamp) {
        match self.sink.reopen() {
            Ok(Reopened::Yes) => self.note(now, Level::Info, "File log re-opened".to_owned()),
            Ok(Reopened::NoFile) => {
                let text = "File log re-open ignored, not a file logger".to_owned();
                self.note(now, Level::Info, text);
            }
            Err(error) => {
                let text = format!("File log cannot be re-opened, the old file goes on: {error}");
                self.note(now, Level::Error, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Log;
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_383_000_123_456_789);

    fn file_options(path: std::path::PathBuf) -> LogOptions {
        LogOptions { file: Some(path), is_time_shown: false, ..LogOptions::default() }
    }

    #[test]
    fn lines_of_many_threads_never_mix_and_all_are_written_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (log, thread) = Log::start(42, &file_options(path.clone())).unwrap();
        let writers = (0..4).map(|number| {
            let log = log.clone();
            thread::spawn(move || {
                (0..200).for_each(|count| log.info(NOW, format!("{number} {count}")))
            })
        });
        writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
        drop(thread);
        let text = std::fs::read_to_string(path).unwrap();
        for number in 0..4 {
            let head = format!("[42] [INF] STREAM: {number} ");
            let counts: Vec<usize> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&head))
                .map(|count| count.parse().unwrap())
                .collect();
            assert_eq!(counts, (0..200).collect::<Vec<_>>());
        }
        assert_eq!(text.lines().count(), 800);
    }

    #[test]
    fn a_moved_file_is_left_alone_after_an_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (log, thread) = Log::start(42, &file_options(path.clone())).unwrap();
        log.info(NOW, "one");
        let old = directory.path().join("old");
        // The file is there since the start.
        std::fs::rename(&path, &old).unwrap();
        log.reopen(NOW);
        log.info(NOW, "two");
        drop(thread);
        assert_eq!(std::fs::read_to_string(old).unwrap(), "[42] [INF] STREAM: one\n");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text, "[42] [INF] File log re-opened\n[42] [INF] STREAM: two\n");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let sink = Sink::open(42, &file_options(path.clone())).unwrap();
        let style = LineStyle {
            process_id: 42,
            format: crate::args::LogFormat::Text,
            is_time_shown: false,
            zone: TimeZone::UTC,
        };
        let (sender, inbox) = sync_channel(2);
        let counters = Arc::new(Counters::default());
        let queue = Queue { sender, counters: counters.clone() };
        let record = |text: &str| Record {
            now: NOW,
            level: Level::Info,
            part: Part::Server,
            text: text.to_owned(),
        };
        queue.offer(record(&"x".repeat(QUEUE_BYTES_MAX + 1)));
        queue.offer(record("a"));
        queue.offer(record("b"));
        queue.offer(record("c"));
        drop(queue);
        Writer { sink, style, counters: counters.clone() }.run(&inbox);
        assert_eq!(counters.waiting_bytes.load(Ordering::Relaxed), 0);
        let text = std::fs::read_to_string(path).unwrap();
        let warning = "[42] [WRN] 2 log lines were lost: the log could not take them\n";
        assert_eq!(text, format!("{warning}[42] [INF] a\n[42] [INF] b\n"));
    }
}
