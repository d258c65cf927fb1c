//! The lines of an upload: as they come, and kept until all are there.

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::problem::Problem;
use crate::audience::sync::LINE_BYTES;

/// Most bytes of an upload that are kept until it is whole: with `?atomic=true` nothing else would bound
/// what one app takes of the disk.
pub(super) const SPOOL_BYTES: usize = 1 << 30;
/// Bytes of a line that are kept: enough to show that it is too long.
const KEPT_BYTES: usize = 2 * LINE_BYTES;
/// Bytes read at a time of what was kept.
const READ_BYTES: usize = 1 << 16;

/// The lines of an upload, without ever holding more than one and what is read at a time.
pub(super) struct Lines {
    source: BoxStream<'static, Result<Bytes, Problem>>,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    next: usize,
    ended: bool,
    /// The number of the line last given, from 1.
    pub(super) number: u64,
}

impl Lines {
    /// Those that a client sends.
    pub(super) fn of(body: Body) -> Self {
        let cut_off = "the upload was cut off: what was written of it stays, send it again";
        let cut_off = move |_| Problem::new(StatusCode::BAD_REQUEST, cut_off);
        Self::new(body.into_data_stream().map_err(cut_off).boxed())
    }

    fn new(source: BoxStream<'static, Result<Bytes, Problem>>) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            next: 0,
            ended: false,
            number: 0,
        }
    }

    /// The next line that is not empty. What is longer than any good line is given cut off, but never
    /// shorter than that: what its end was is not known.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            let rest = &self.buffer[self.next..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..end];
                self.next += end + 1;
                self.number += 1;
                if line.len() >= KEPT_BYTES {
                    return Ok(Some(line.to_vec()));
                }
                let line = line.trim_ascii_end();
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line.to_vec()));
            }
            self.buffer.drain(..self.next);
            self.next = 0;
            if self.ended {
                return Ok(None);
            }
            if let Some(bytes) = self.source.try_next().await? {
                self.keep(&bytes);
            } else {
                self.ended = true;
                self.buffer.push(b'\n');
            }
        }
    }

    /// Adds bytes, but of a line without end only as many as show that it is too long.
    fn keep(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, ends) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&rest[..=end], true),
                None => (rest, false),
            };
            rest = &rest[piece.len()..];
            let open = self
                .buffer
                .iter()
                .rev()
                .take_while(|byte| **byte != b'\n')
                .count();
            let room = KEPT_BYTES.saturating_sub(open);
            if piece.len() <= room {
                self.buffer.extend_from_slice(piece);
            } else {
                self.buffer.extend_from_slice(&piece[..room]);
                if ends {
                    self.buffer.push(b'\n');
                }
            }
        }
    }
}

/// Lines kept in a file that nobody else sees and that goes with it.
pub(super) struct Spool {
    file: File,
    /// Bytes it may still take.
    room: usize,
}

impl Spool {
    pub(super) fn new(room: usize) -> Result<Self, Problem> {
        let file = tempfile::tempfile().map_err(|error| not_kept(&error))?;
        Ok(Self {
            file: File::from_std(file),
            room,
        })
    }

    pub(super) async fn keep(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.room = self.room.checked_sub(line.len() + 1).ok_or_else(|| {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "at most 1 GiB is taken whole: send it in parts, or without ?atomic=true",
            )
        })?;
        let kept = async {
            self.file.write_all(line).await?;
            self.file.write_all(b"\n").await
        };
        kept.await.map_err(|error| not_kept(&error))
    }

    /// What was kept, from the beginning.
    pub(super) async fn lines(mut self) -> Result<Lines, Problem> {
        let rewound = async {
            self.file.flush().await?;
            self.file.rewind().await
        };
        rewound.await.map_err(|error| not_kept(&error))?;
        let kept = ReaderStream::with_capacity(self.file, READ_BYTES);
        Ok(Lines::new(kept.map_err(|error| not_kept(&error)).boxed()))
    }
}

fn not_kept(error: &std::io::Error) -> Problem {
    tracing::error!(error = %error, "an upload cannot be kept in a temporary file and read from it");
    Problem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "the upload cannot be kept until it is whole: the server's disk is full or at fault, send it again",
    )
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::audience::sync::parse;

    async fn lines(text: String) -> Vec<(u64, usize)> {
        let mut lines = Lines::of(Body::from(text));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push((lines.number, line.len()));
        }
        all
    }

    #[tokio::test]
    async fn a_line_that_is_cut_off_stays_too_long_whatever_it_begins_with() {
        let blanks = " ".repeat(KEPT_BYTES);
        let text = format!("a\r\n  \n{blanks}b\nc\nd{blanks}e\n{blanks}\nf");
        let long = KEPT_BYTES;
        assert_eq!(
            lines(text).await,
            [(1, 1), (3, long), (4, 1), (5, long), (6, long), (7, 1)]
        );
        let problem = parse(blanks.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(problem.contains("longer than"), "{problem}");
    }

    #[tokio::test]
    async fn who_sends_is_at_fault_for_what_is_cut_off_and_we_for_what_cannot_be_read_again() {
        let cut = tokio_stream::iter([Ok("a\nb"), Err(std::io::Error::other("reset"))]);
        let mut sent = Lines::of(Body::from_stream(cut));
        let dir = tempfile::tempdir().unwrap();
        // Nobody can read it.
        let file = std::fs::File::create(dir.path().join("spool")).unwrap();
        let mut spool = Spool {
            file: File::from_std(file),
            room: 9,
        };
        spool.keep(b"a").await.unwrap();
        let mut kept = spool.lines().await.unwrap();
        assert_eq!(sent.next().await.unwrap().unwrap(), b"a");
        for (lines, expected) in [
            (&mut sent, StatusCode::BAD_REQUEST),
            (&mut kept, StatusCode::INSUFFICIENT_STORAGE),
        ] {
            let Err(Problem::Refused { status, .. }) = lines.next().await else {
                panic!("it went well");
            };
            assert_eq!(status, expected);
        }
    }

    #[tokio::test]
    async fn what_is_kept_until_it_is_whole_has_a_bound() {
        let mut spool = Spool::new(5).unwrap();
        spool.keep(b"ab").await.unwrap();
        spool.keep(b"c").await.unwrap();
        let Err(Problem::Refused { status, .. }) = spool.keep(b"").await else {
            panic!("it has no bound");
        };
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let mut kept = spool.lines().await.unwrap();
        assert_eq!(kept.next().await.unwrap().unwrap(), b"ab");
        assert_eq!(kept.next().await.unwrap().unwrap(), b"c");
        assert_eq!(kept.next().await.unwrap(), None);
    }
}
