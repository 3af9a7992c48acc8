//! Writes log lines to standard error in batches of some milliseconds, because one write per line
//! would be a considerable part of a request's cost.
//!
//! If the process is killed, the lines of its last milliseconds are lost.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The time that a line waits for others.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// The maximum size of the buffer. A thread whose line exceeds it writes the buffer itself.
const MAX_BUFFERED_BYTES: usize = 256 * 1024;

/// Buffers log lines; cheap to clone.
pub struct LogWriter<W: Write>(Arc<Shared<W>>);

struct Shared<W> {
    buffer: Mutex<LineBuffer>,
    changed: Condvar,
    /// Locked before lines are taken from the buffer, so that they are written in order.
    out: Mutex<W>,
}

#[derive(Default)]
struct LineBuffer {
    lines: Vec<u8>,
    is_closed: bool,
}

/// The thread that writes the buffered lines. Dropping it writes all of them; later lines are
/// written by the threads that log them.
pub struct LogThread<W: Write> {
    shared: Arc<Shared<W>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a thread that writes to `out`.
///
/// # Errors
/// The system could not start a thread.
pub fn start<W: Write + Send + 'static>(out: W) -> io::Result<(LogWriter<W>, LogThread<W>)> {
    let shared = Shared { buffer: Mutex::default(), changed: Condvar::new(), out: Mutex::new(out) };
    let shared = Arc::new(shared);
    let writing = Arc::clone(&shared);
    let thread = thread::Builder::new().name("log".to_owned()).spawn(move || writing.run())?;
    Ok((LogWriter(Arc::clone(&shared)), LogThread { shared, thread: Some(thread) }))
}

impl<W: Write> Shared<W> {
    fn lock_buffer(&self) -> MutexGuard<'_, LineBuffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            let buffer = self
                .changed
                .wait_while(self.lock_buffer(), |it| it.lines.is_empty() && !it.is_closed);
            let buffer = buffer.unwrap_or_else(PoisonError::into_inner);
            let buffer = self.changed.wait_timeout_while(buffer, BATCH_DELAY, |it| !it.is_closed);
            let is_closed = buffer.unwrap_or_else(PoisonError::into_inner).0.is_closed;
            self.write_buffered();
            if is_closed {
                return;
            }
        }
    }

    /// Writes the buffered lines. A failure is ignored, because it could not be logged.
    fn write_buffered(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut self.lock_buffer().lines);
        let _ = out.write_all(&lines);
    }
}

impl<W: Write> Clone for LogWriter<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock_buffer();
        let was_empty = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        let must_write = buffer.lines.len() > MAX_BUFFERED_BYTES || buffer.is_closed;
        drop(buffer);
        if must_write {
            self.0.write_buffered();
        } else if was_empty {
            self.0.changed.notify_one();
        }
        Ok(line.len())
    }

    /// Writes the buffered lines immediately.
    fn flush(&mut self) -> io::Result<()> {
        self.0.write_buffered();
        Ok(())
    }
}

impl<W: Write> Drop for LogThread<W> {
    fn drop(&mut self) {
        self.shared.lock_buffer().is_closed = true;
        self.shared.changed.notify_one();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Sends each written part to a channel.
    struct ChannelWriter(mpsc::Sender<Vec<u8>>);

    impl Write for ChannelWriter {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.send(part.to_owned()).map_err(io::Error::other)?;
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_even_if_no_other_follows() {
        let (sender, receiver) = mpsc::channel();
        let (mut writer, _log_thread) = start(ChannelWriter(sender)).expect("a thread");
        for line in ["one\n", "two\n"] {
            writer.write_all(line.as_bytes()).expect("buffered");
            let part = receiver.recv_timeout(Duration::from_secs(30));
            assert_eq!(part, Ok(line.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_line_is_written_once_and_the_lines_of_each_thread_in_order() {
        let (sender, receiver) = mpsc::channel();
        let (writer, log_thread) = start(ChannelWriter(sender)).expect("a thread");
        thread::scope(|scope| {
            for thread in 0..4 {
                let mut writer = writer.clone();
                scope.spawn(move || {
                    for number in 0..20_000 {
                        let line = format!("{thread} {number:05} {}\n", "x".repeat(20));
                        writer.write_all(line.as_bytes()).expect("buffered");
                    }
                });
            }
        });
        drop(log_thread);
        let mut late = writer;
        late.write_all(b"4 late\n").expect("written");
        let parts: Vec<Vec<u8>> = receiver.try_iter().collect();
        assert!(parts.len() < 2_000, "{} parts", parts.len());
        let text = String::from_utf8(parts.concat()).expect("text");
        assert!(text.ends_with("\n4 late\n"));
        for thread in 0..4 {
            let of_thread: Vec<&str> =
                text.lines().filter(|line| line.starts_with(&format!("{thread} "))).collect();
            assert_eq!(of_thread.len(), 20_000);
            assert!(of_thread.is_sorted());
        }
    }
}
