//! `POST /invalidate`: keys and tags that something outside knows to have changed.
//!
//! The body is JSON: `{"keys": ["user:42"], "tags": ["posts"], "db": 0, "soft": false}`, each of
//! them may be left out; `soft` lets what is invalidated be served stale where a rule has a stale
//! window for it. Asked for with `Authorization: Bearer` and `admin-token`; without that
//! setting, for nobody.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::NO_STORE;
use crate::command::connection::is_same_secret;
use crate::events::effect::{self, Invalidation};
use crate::instance::Instance;

/// Bytes of a body.
pub(super) const BODY_MAX: usize = 1024 * 1024;

pub(super) async fn invalidate(
    State(instance): State<Arc<Instance>>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let (status, answer) = match answer(&instance, &headers, &body).await {
        Ok(answer) => (StatusCode::OK, answer),
        Err((status, why)) => (status, json!({ "error": why })),
    };
    (status, NO_STORE, format!("{answer}\n"))
}

type Refused = (StatusCode, String);

async fn answer(instance: &Instance, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
    let token = instance.config().admin_token.clone();
    if token.is_empty() {
        return Err((StatusCode::FORBIDDEN, "admin-token is not set".to_owned()));
    }
    if !is_authorized(headers, &token) {
        let why = "Authorization: Bearer and admin-token".to_owned();
        return Err((StatusCode::UNAUTHORIZED, why));
    }
    // Which databases upstream has, it says itself.
    let databases = match &instance.upstream {
        Some(_) => u16::MAX,
        None => instance.store.databases(),
    };
    let asked = parse(body, databases).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    match effect::invalidate(instance, asked).await {
        Ok(done) => Ok(json!({ "keys": done.keys, "of_tags": done.of_tags })),
        Err(refused) => {
            let status = match refused {
                effect::Refused::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
                effect::Refused::Upstream(_) => StatusCode::BAD_GATEWAY,
            };
            Err((status, refused.to_string()))
        }
    }
}

fn is_authorized(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| is_same_secret(given, token.as_bytes()))
}

fn parse(body: &[u8], databases: u16) -> Result<Invalidation, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let Value::Object(fields) = value else {
        return Err("an object is expected".to_owned());
    };
    let mut asked = Invalidation::default();
    for (name, value) in fields {
        take(&mut asked, &name, value, databases)?;
    }
    Ok(asked)
}

fn take(asked: &mut Invalidation, name: &str, value: Value, databases: u16) -> Result<(), String> {
    match (name, value) {
        ("keys", Value::Array(list)) => asked.keys = texts(name, list)?,
        ("tags", Value::Array(list)) => asked.tags = texts(name, list)?,
        ("soft", Value::Bool(is_soft)) => asked.is_soft = is_soft,
        ("db", Value::Number(db)) => {
            let db = db.as_u64().and_then(|db| u16::try_from(db).ok());
            let db = db.filter(|db| *db < databases);
            let db = db.ok_or_else(|| "db: there is no such database".to_owned())?;
            asked.db = Some(db);
        }
        ("keys" | "tags" | "soft" | "db", _) => return Err(format!("{name}: not understood")),
        _ => return Err(format!("{name}: unknown")),
    }
    Ok(())
}

fn texts(name: &str, list: Vec<Value>) -> Result<Vec<Box<[u8]>>, String> {
    let text = |value| match value {
        Value::String(text) => Ok(text.into_bytes().into()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("{name}: a list of texts is expected"))
        }
    };
    list.into_iter().map(text).collect()
}
