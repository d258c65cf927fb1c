//! `PUT /v1/subscribers`: a stream of lines, read as it comes and written a thousand at a time, so
//! that memory does not grow with it.

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader};

use super::extract::InQuery;
use super::problem::Problem;
use super::{House, auth};
use crate::audience::sync::{CHUNK_LINES, Entry, LINE_BYTES, apply, parse};
use crate::model::{AppId, Caller};

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
    let now = house.dispatch.store.now().await?;
    let mut lines = Lines::new(body.into_data_stream());
    let mut upload = Upload {
        house: &house,
        app,
        now,
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

struct Upload<'a> {
    house: &'a House,
    app: AppId,
    now: Timestamp,
    report: Report,
}

impl Upload<'_> {
    /// Writes the good lines as they come.
    async fn good_ones(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        let mut chunk = Vec::with_capacity(CHUNK_LINES);
        while let Some(line) = lines.next().await? {
            let Some(entry) = self.read(lines.number, &line) else {
                continue;
            };
            chunk.push(entry);
            if chunk.len() == CHUNK_LINES {
                self.write(std::mem::take(&mut chunk)).await?;
            }
        }
        self.write(chunk).await
    }

    /// Keeps the lines in a file until all have been read, then writes them unless one was bad.
    async fn all_or_none(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        let file = tempfile::tempfile().map_err(|error| spool(&error))?;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(line) = lines.next().await? {
            if self.read(lines.number, &line).is_some() {
                file.write_all(&line).await.map_err(|error| spool(&error))?;
                file.write_all(b"\n").await.map_err(|error| spool(&error))?;
            }
        }
        if self.report.refused > 0 {
            return Ok(());
        }
        file.flush().await.map_err(|error| spool(&error))?;
        file.rewind().await.map_err(|error| spool(&error))?;
        let mut kept = BufReader::new(file).split(b'\n');
        let mut chunk = Vec::with_capacity(CHUNK_LINES);
        while let Some(line) = kept.next_segment().await.map_err(|error| spool(&error))? {
            // Read once already without a problem.
            chunk.extend(parse(&line, self.now));
            if chunk.len() == CHUNK_LINES {
                self.write(std::mem::take(&mut chunk)).await?;
            }
        }
        self.write(chunk).await
    }

    fn read(&mut self, number: u64, line: &[u8]) -> Option<Entry> {
        self.report.lines += 1;
        match parse(line, self.now) {
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

    async fn write(&mut self, chunk: Vec<Entry>) -> Result<(), Problem> {
        self.report.changed += apply(&self.house.dispatch.store, self.app, chunk).await?;
        Ok(())
    }
}

fn spool(error: &std::io::Error) -> Problem {
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
    ended: bool,
    /// The number of the line last given, from 1.
    number: u64,
}

impl Lines {
    fn new(body: BodyDataStream) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            ended: false,
            number: 0,
        }
    }

    /// The next line that is not empty. What is longer than any good line is given cut off.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Problem> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.number += 1;
                while line.last().is_some_and(u8::is_ascii_whitespace) {
                    line.pop();
                }
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
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
            let room = (2 * LINE_BYTES).saturating_sub(open);
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
