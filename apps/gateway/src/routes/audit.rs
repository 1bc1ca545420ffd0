//! `/admin/audit`: who did what, from where, and whether it was allowed.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{AuditQuery, Caller};
use stack_types::{Problem, Timestamp, UserId};

use crate::app::AppState;
use crate::http::csrf;
use crate::http::{ApiResult, Query, Sender, SignedIn};

/// Entries of one piece of the export.
const PIECE: u64 = 500;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/audit", get(list))
        .route("/admin/audit/export", get(export))
}

#[derive(Deserialize)]
struct Which {
    before: Option<u64>,
    after: Option<Timestamp>,
    actor: Option<UserId>,
    action: Option<String>,
    target: Option<String>,
    limit: Option<u64>,
}

impl From<Which> for AuditQuery {
    fn from(which: Which) -> Self {
        Self {
            before: which.before,
            since: which.after,
            actor: which.actor,
            action: which.action,
            target: which.target,
            limit: which.limit,
        }
    }
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Query(which): Query<Which>,
) -> ApiResult<JsonAnswer<Value>> {
    let (entries, next) = app.auth().audit_log(&caller, which.into()).await?;
    let mut answer = json!({ "entries": entries });
    if let Some(next) = next {
        answer["next"] = next.into();
    }
    Ok(JsonAnswer(answer))
}

/// The log as JSON lines, newest first, read piece by piece as it is taken.
async fn export(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    // It is a link on a page of ours, so that a browser brings its cookie along from any page. It would be on record,
    // and much work.
    if csrf::sender(&headers, app.origins()) == csrf::Sender::Foreign {
        return Err(csrf::refused().into());
    }
    let mut query = AuditQuery::from(which);
    query.limit = Some(PIECE);
    // The first piece is read before the answer begins, so that what is refused is told as such.
    let (first, next) = piece(&app, &caller, query).await?;
    app.auth().record_export(&caller, &client).await?;
    // None is read before the one in front of it is taken.
    let rest = stream::try_unfold(next, move |next| {
        let (app, caller) = (app.clone(), caller.clone());
        async move {
            let Some(query) = next else {
                return Ok(None);
            };
            // Whoever takes the log slowly may have lost the right to it.
            let caller = app.auth().current(&caller)?;
            piece(&app, &caller, query).await.map(Some)
        }
    });
    let lines = stream::once(async { Ok::<_, Problem>(first) }).chain(rest);
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"audit.jsonl\"",
        ),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// Some lines, and what to look for after them.
async fn piece(
    app: &AppState,
    caller: &Caller,
    query: AuditQuery,
) -> Result<(Bytes, Option<AuditQuery>), Problem> {
    let (entries, next) = app.auth().audit_log(caller, query.clone()).await?;
    let mut lines = Vec::new();
    for entry in &entries {
        serde_json::to_writer(&mut lines, entry).map_err(Problem::internal)?;
        lines.push(b'\n');
    }
    let next = next.map(|before| AuditQuery {
        before: Some(before),
        ..query
    });
    Ok((lines.into(), next))
}
