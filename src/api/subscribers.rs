//! `PUT /v1/subscribers`: a stream of lines, read as it comes and written a chunk at a time: memory does
//! not grow with it, and who sends faster than the database writes is made to wait.

use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::extract::InQuery;
use super::lines::{Lines, SPOOL_BYTES, Spool};
use super::problem::Problem;
use super::{House, auth};
use crate::audience::everybody::Registry;
use crate::audience::sync::{CHUNK_LINES, Entry, Ready, parse, prepare, write};
use crate::model::{AppId, Caller};
use crate::store::Store;

/// Refused lines that are named one by one; the others are only counted.
const NAMED_LINES: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SyncQuery {
    /// All lines or none.
    #[serde(default)]
    atomic: bool,
    /// This is everybody: who is not in it is deleted.
    #[serde(default)]
    full: bool,
}

/// What became of an upload.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Lines read, empty ones left out.
    lines: u64,
    /// Rows that changed; the others were known already, or older than what is known.
    changed: u64,
    /// Subscribers deleted because an upload of everybody did not name them.
    deleted: u64,
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
    let mut lines = Lines::of(body);
    let now = house.dispatch.store.now().await?;
    let mut upload = Upload {
        store: house.dispatch.store.clone(),
        app,
        began: (now, Instant::now()),
        everybody: query.full.then(|| Registry::begin(now)),
        report: Report::default(),
    };
    if query.atomic {
        upload.all_or_none(&mut lines).await?;
    } else {
        upload.good_ones(&mut lines).await?;
    }
    upload.delete_others().await?;
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
        .inc_by(report.changed + report.deleted);
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

/// The next chunk of an upload.
enum Next {
    /// To be looked up; empty at the end.
    Read(Vec<Entry>),
    /// Looked up.
    Ready(Ready),
}

struct Upload {
    store: Store,
    app: AppId,
    /// When it began, by the database's clock and by ours.
    began: (Timestamp, Instant),
    /// Who is named, if it is to be everybody.
    everybody: Option<Registry>,
    report: Report,
}

impl Upload {
    /// Writes the good lines as they come: the next chunk is read, and looked up if it can be, while one
    /// is written.
    async fn good_ones(&mut self, lines: &mut Lines) -> Result<(), Problem> {
        let (store, app) = (self.store.clone(), self.app);
        let mut next = Next::Read(self.chunk(lines).await?);
        loop {
            let chunk = match next {
                Next::Read(chunk) if chunk.is_empty() => return Ok(()),
                Next::Read(chunk) => prepare(&store, app, chunk).await?,
                Next::Ready(chunk) => chunk,
            };
            let (changed, after) = tokio::join!(write(&store, &chunk), self.after(&chunk, lines));
            self.report.changed += changed?;
            next = after?;
        }
    }

    /// The chunk after one that is being written. If it says something about the same tokens, it can be
    /// looked up only when they have been written.
    async fn after(&mut self, writing: &Ready, lines: &mut Lines) -> Result<Next, Problem> {
        let chunk = self.chunk(lines).await?;
        if chunk.is_empty() || writing.shares_tokens_with(&chunk) {
            return Ok(Next::Read(chunk));
        }
        Ok(Next::Ready(prepare(&self.store, self.app, chunk).await?))
    }

    /// Deletes whom an upload of everybody did not name; nobody if a line of it was refused, since
    /// that may have been about anybody.
    async fn delete_others(&mut self) -> Result<(), Problem> {
        let Some(everybody) = &self.everybody else {
            return Ok(());
        };
        if self.report.refused > 0 {
            return Ok(());
        }
        let deleted = everybody.delete_others(&self.store, self.app).await?;
        self.report.deleted = deleted.ok_or_else(|| {
            Problem::new(
                StatusCode::CONFLICT,
                "nobody was deleted: with ?full=true at least one subscriber must be named, and the database \
                 must not have been restarted meanwhile; send it again",
            )
        })?;
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
        // They are counted as they are written.
        self.report = Report::default();
        self.good_ones(&mut spool.lines().await?).await
    }

    /// The next good lines, a chunk of them, noted if everybody is to be named; fewer only at the end.
    async fn chunk(&mut self, lines: &mut Lines) -> Result<Vec<Entry>, Problem> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK_LINES
            && let Some(line) = lines.next().await?
        {
            chunk.extend(self.read(lines.number, &line));
        }
        if let Some(everybody) = &mut self.everybody
            && !chunk.is_empty()
        {
            everybody.name(&self.store, &chunk).await?;
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
