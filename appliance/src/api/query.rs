//! `GET /api/v1/query/{noun}`: objects for which an expression holds, now or as of a moment of the log.

use std::cell::RefCell;

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use fleet::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::history::head_at;
use crate::core::Core;
use crate::query::field::{Now, Scene};
use crate::query::{About, Noun, Question, WrongExpression};
use crate::store::{Record, StoreError};
use crate::{App, core, web};

/// Questions that are answered at once; each may take a processor for seconds.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Events that are read at once.
const PAGE: i64 = 4096;

/// The parser and the interpreter of expressions work by recursion.
const STACK: usize = 64 << 20;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    filter: Option<String>,
    at: Option<String>,
    /// Separated by commas; all, if none is named.
    fields: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Nouns {
    pub noun: &'static str,
    pub fields: Vec<About>,
}

/// `GET /api/v1/query`: what there is to ask for.
pub async fn nouns() -> axum::Json<Vec<Nouns>> {
    let nouns = Noun::ALL.into_iter().map(|noun| Nouns { noun: noun.word(), fields: noun.fields() });
    axum::Json(nouns.collect())
}

pub async fn get(
    State(app): State<App>,
    Path(noun): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, web::Error> {
    let named = |fields: &str| fields.split(',').map(|field| field.trim().to_owned()).collect();
    let question = Question {
        noun: Noun::named(&noun)?,
        filter: wanted.filter.filter(|filter| !filter.trim().is_empty()),
        fields: wanted.fields.as_deref().map(named).unwrap_or_default(),
    };
    let (scene, position) = scene(&app, wanted.at.as_deref()).await?;
    let log = Log::until(&app.core, position);
    let Ok(_turn) = AT_ONCE.acquire().await else { return Err(busy()) };
    let (reply, answer) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("query".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            // Whoever asked may have gone away.
            let answer = question.answer(&scene, log.records());
            let _ = reply.send((answer, log.failed.into_inner()));
        })
        .map_err(|error| web::Error::Broken(error.into()))?;
    let (answer, failed) = answer.await.map_err(|_| busy())?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let json = answer?;
    Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response())
}

/// The log up to a position, read page by page from a thread that may wait.
struct Log {
    core: Core,
    until: i64,
    runtime: tokio::runtime::Handle,
    failed: RefCell<Option<StoreError>>,
}

impl Log {
    fn until(core: &Core, until: i64) -> Log {
        Log {
            core: core.clone(),
            until,
            runtime: tokio::runtime::Handle::current(),
            failed: RefCell::default(),
        }
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let mut after = 0;
        let pages = std::iter::from_fn(move || {
            let limit = u32::try_from((self.until - after).min(PAGE)).ok().filter(|limit| *limit > 0)?;
            match self.runtime.block_on(self.core.history(after, limit)) {
                Ok(records) => {
                    after = records.last()?.position;
                    Some(records)
                }
                Err(error) => {
                    self.failed.replace(Some(error));
                    None
                }
            }
        });
        pages.flatten()
    }
}

/// The site at a moment, and the position of the last event in it.
async fn scene(app: &App, at: Option<&str>) -> Result<(Scene, i64), web::Error> {
    let Some(at) = at else {
        let now = Now { observed: app.core.observed(), plan: app.core.plan() };
        let head = app.core.head();
        return Ok((Scene::new(head.fleet, Some(now), core::now()), head.position));
    };
    let head = head_at(app, at).await?;
    let last = app.core.history((head.position - 1).max(0), 1).await?;
    let time = last.first().map_or(Timestamp(0), |record| record.at);
    Ok((Scene::new(head.fleet, None, time), head.position))
}

fn busy() -> web::Error {
    WrongExpression("this question could not be answered".to_owned()).into()
}
