//! `PUT /v1/subscribers`: a stream of lines, read as it comes and written a chunk at a time: memory does
//! not grow with it, and who sends faster than the database writes is made to wait.

use std::time::Instant;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader, Split};

use super::extract::InQuery;
use super::problem::Problem;
use super::{House, auth};
use crate::audience::sync::{CHUNK_LINES, Entry, LINE_BYTES, apply, parse};
use crate::model::{AppId, Caller};
use crate::store::Store;

/// Most bytes of an upload that are kept until it is whole: with `?atomic=true` nothing else would bound
/// what one app takes of the disk.
const SPOOL_BYTES: usize = 1 << 30;
/// Bytes of a line that are kept: enough to show that it is too long.
const KEPT_BYTES: usize = 2 * LINE_BYTES;
/// Refused lines that are named one by one; the others are only counted.
const NAMED_LINES: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncQuery {
    /// All lines or none.
    #[serde(default)]
    atomic: bool,
}

/// What became of an upload.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Lines read, empty ones left out.
    lines: u64,
    /// Rows that changed; the others were known already, or older than what is known.
    changed: u64,
    /// Lines refused.
    refused: u64,
    /// The first of them by number, from 1.
    errors: Vec<LineProblem>,
}

#[derive(Debug, Serialize)]
struct LineProblem {
    line: u64,
    problem: String,
}

/// `PUT /v1/subscribers`
pub(super) async fn sync(
    State(house): State<House>,
    caller: Caller,
    InQuery(query): InQuery<SyncQuery>,
    body: Body,
) -> Result<Response, Problem> {
    let app = auth::app(&caller)?;
    let mut lines = Lines::new(body.into_data_stream());
    let mut upload = Upload {
        store: house.dispatch.store.clone(),
        app,
        began: (house.dispatch.store.now().await?, Instant::now()),
        report: Report::default(),
    };
    if query.atomic {
        upload.all_or_none(&mut lines).await?;
    } else {
        upload.good_ones(&mut lines).await?;
    }
    let report = upload.report;
    house
        .dispatch
        .metrics
        .sync_lines_refused
        .inc_by(report.refused);
    house
        .dispatch
        .metrics
        .subscribers_changed
        .inc_by(report.changed);
    let nothing_taken = report.refused > 0 && (query.atomic || report.refused == report.lines);
    if nothing_taken {
        return Err(Problem::Refused {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: format!(
                "{} of {} lines cannot be taken; nothing was changed",
                report.refused, report.lines
            ),
            more: json!({ "lines": report.lines, "refused": report.refused, "errors": report.errors }),
        });
    }
    Ok(Json(report).into_response())
}

struct Upload {
    store: Store,
    app: AppId,
    /// When it began, by the database's clock and by ours.
    began: (Timestamp, Instant),
    report: Report,
}

impl Upload {
    /// Writes the good lines as they come: the next chunk is read while one is written.
    async fn good_ones(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        let (store, app) = (self.store.clone(), self.app);
        let mut chunk = self.chunk(lines).await?;
        while !chunk.is_empty() {
            let (changed, next) = tokio::join!(apply(&store, app, chunk), self.chunk(lines));
            self.report.changed += changed?;
            chunk = next?;
        }
        Ok(())
    }

    /// Keeps the lines in a file until all have been read, then writes them unless one was bad.
    async fn all_or_none(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        let mut spool = Spool::new(SPOOL_BYTES)?;
        while let Some(line) = lines.next().await? {
            if self.read(lines.number, &line).is_some() {
                spool.keep(&line).await?;
            }
        }
        if self.report.refused > 0 {
            return Ok(());
        }
        let mut kept = spool.lines().await?;
        let mut chunk = Vec::with_capacity(CHUNK_LINES);
        while let Some(line) = kept.next_segment().await.map_err(|error| no_room(&error))? {
            // Read once already without a problem.
            chunk.extend(parse(&line, self.now()));
            if chunk.len() == CHUNK_LINES {
                let full = std::mem::take(&mut chunk);
                self.report.changed += apply(&self.store, self.app, full).await?;
            }
        }
        self.report.changed += apply(&self.store, self.app, chunk).await?;
        Ok(())
    }

    /// The next good lines, a chunk of them; fewer only at the end.
    async fn chunk(&mut self, lines: &mut Lines) -> Result<Vec<Entry>, Problem> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_LINES
            && let Some(line) = lines.next().await?
        {
            chunk.extend(self.read(lines.number, &line));
        }
        Ok(chunk)
    }

    /// Lines are judged by the time they come: an upload may take longer than a clock may be ahead.
    fn now(&self) -> Timestamp {
        let (began, since) = self.began;
        began + since.elapsed()
    }

    fn read(&mut self, number: u64, line: &[u8]) -> Option<Entry> {
        self.report.lines += 1;
        match parse(line, self.now()) {
            Ok(entry) => Some(entry),
            Err(problem) => {
                self.report.refused += 1;
                if self.report.errors.len() < NAMED_LINES {
                    self.report.errors.push(LineProblem {
                        line: number,
                        problem,
                    });
                }
                None
            }
        }
    }
}

/// Lines kept in a file that nobody else sees and that goes with it.
struct Spool {
    file: File,
    /// Bytes it may still take.
    room: usize,
}

impl Spool {
    fn new(room: usize) -> Result<Self, Problem> {
        let file = tempfile::tempfile().map_err(|error| no_room(&error))?;
        Ok(Self {
            file: File::from_std(file),
            room,
        })
    }

    async fn keep(&mut self, line: &[u8]) -> Result<(), Problem> {
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
        kept.await.map_err(|error| no_room(&error))
    }

    /// What was kept, from the beginning.
    async fn lines(mut self) -> Result<Split<BufReader<File>>, Problem> {
        let rewound = async {
            self.file.flush().await?;
            self.file.rewind().await
        };
        rewound.await.map_err(|error| no_room(&error))?;
        Ok(BufReader::new(self.file).split(b'\n'))
    }
}

fn no_room(error: &std::io::Error) -> Problem {
    tracing::error!(error = %error, "an upload cannot be kept in a temporary file");
    Problem::new(
        StatusCode::INSUFFICIENT_STORAGE,
        "there is no room to keep the upload until it is whole",
    )
}

/// The lines of a body, without ever holding more than one and a network buffer.
struct Lines {
    body: BodyDataStream,
    buffer: Vec<u8>,
    /// Where in the buffer the next line begins.
    next: usize,
    ended: bool,
    /// The number of the line last given, from 1.
    number: u64,
}

impl Lines {
    fn new(body: BodyDataStream) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            next: 0,
            ended: false,
            number: 0,
        }
    }

    /// The next line that is not empty. What is longer than any good line is given cut off, but never
    /// shorter than that: what its end was is not known.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
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
            match self.body.next().await {
                Some(Ok(bytes)) => self.keep(&bytes),
                Some(Err(_)) => {
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "the upload was cut off: what was written of it stays, send it again",
                    ));
                }
                None => {
                    self.ended = true;
                    self.buffer.push(b'\n');
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: String) -> Vec<(u64, usize)> {
        let mut lines = Lines::new(Body::from(text).into_data_stream());
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
    async fn what_is_kept_until_it_is_whole_has_a_bound() {
        let mut spool = Spool::new(5).unwrap();
        spool.keep(b"ab").await.unwrap();
        spool.keep(b"c").await.unwrap();
        let Err(Problem::Refused { status, .. }) = spool.keep(b"").await else {
            panic!("it has no bound");
        };
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        let mut kept = spool.lines().await.unwrap();
        assert_eq!(kept.next_segment().await.unwrap().unwrap(), b"ab");
        assert_eq!(kept.next_segment().await.unwrap().unwrap(), b"c");
        assert_eq!(kept.next_segment().await.unwrap(), None);
    }
}
