//! Where log lines go: to standard error, but those of some milliseconds together. A write for each
//! line is a good part of what a request costs.
//!
//! What is lost when the process is killed is what it logged in its last milliseconds.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a line waits for others.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// How many bytes wait at most; whoever logs more writes them down first.
const MAX_BUFFERED_BYTES: usize = 256 * 1024;

/// Takes lines; cheap to clone.
pub struct LogWriter<W: Write>(Arc<Shared<W>>);

struct Shared<W> {
    buffer: Mutex<LineBuffer>,
    changed: Condvar,
    /// Held before lines are taken, so that they are written in their order.
    out: Mutex<W>,
}

#[derive(Default)]
struct LineBuffer {
    lines: Vec<u8>,
    is_closed: bool,
}

/// The thread that writes lines down. Dropped, it has written all of them; later ones are written
/// by whoever logs them.
pub struct LogThread<W: Write> {
    shared: Arc<Shared<W>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts writing to `out`.
///
/// # Errors
/// The system's own, where it has no thread left.
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
            let waiting = self
                .changed
                .wait_while(self.lock_buffer(), |it| it.lines.is_empty() && !it.is_closed);
            let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let gathered =
                self.changed.wait_timeout_while(waiting, BATCH_DELAY, |it| !it.is_closed);
            let has_ended = gathered.unwrap_or_else(PoisonError::into_inner).0.is_closed;
            self.write_buffered();
            if has_ended {
                return;
            }
        }
    }

    /// Writes down what waits. Nobody is told where that fails: where should it be said?
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
        let mut waiting = self.0.lock_buffer();
        let was_empty = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        let must_write = waiting.lines.len() > MAX_BUFFERED_BYTES || waiting.is_closed;
        drop(waiting);
        if must_write {
            self.0.write_buffered();
        } else if was_empty {
            self.0.changed.notify_one();
        }
        Ok(line.len())
    }

    /// Writes down what waits, now.
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

    /// Tells of each part that is written.
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
    fn a_line_is_written_while_nothing_follows_it() {
        let (tell, told) = mpsc::channel();
        let (mut writer, _writing) = start(ChannelWriter(tell)).expect("a thread");
        for line in ["one\n", "two\n"] {
            writer.write_all(line.as_bytes()).expect("taken");
            assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(line.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_line_is_written_once_and_each_thread_s_in_their_order() {
        let (tell, told) = mpsc::channel();
        let (writer, writing) = start(ChannelWriter(tell)).expect("a thread");
        thread::scope(|scope| {
            for thread in 0..4 {
                let mut writer = writer.clone();
                scope.spawn(move || {
                    for number in 0..20_000 {
                        let line = format!("{thread} {number:05} {}\n", "x".repeat(20));
                        writer.write_all(line.as_bytes()).expect("taken");
                    }
                });
            }
        });
        drop(writing);
        let mut late = writer;
        late.write_all(b"4 late\n").expect("taken");
        let parts: Vec<Vec<u8>> = told.try_iter().collect();
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
