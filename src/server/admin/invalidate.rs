//! `POST /invalidate`: keys and tags that something outside knows to have changed.
//!
//! The body is JSON: `{"keys": ["user:42"], "tags": ["posts"], "db": 0, "soft": false}`, each of
//! them may be left out. Asked for with `Authorization: Bearer` and `admin-token`; without that
//! setting, for nobody.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::NO_STORE;
use crate::clock;
use crate::command::connection::is_same_secret;
use crate::instance::Instance;
use crate::keyspace::{Place, View};

/// Bytes of a body.
pub(super) const BODY_MAX: usize = 1024 * 1024;

pub(super) async fn invalidate(
    State(instance): State<Arc<Instance>>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let (status, answer) = match answer(&instance, &headers, &body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err((status, why)) => (status, json!({ "error": why })),
    };
    (status, NO_STORE, format!("{answer}\n"))
}

type Refused = (StatusCode, String);

fn answer(instance: &Instance, headers: &HeaderMap, body: &[u8]) -> Result<Value, Refused> {
    let token = instance.config().admin_token.clone();
    if token.is_empty() {
        return Err((StatusCode::FORBIDDEN, "admin-token is not set".to_owned()));
    }
    if !is_authorized(headers, &token) {
        let why = "Authorization: Bearer and admin-token".to_owned();
        return Err((StatusCode::UNAUTHORIZED, why));
    }
    if instance.upstream.is_some() {
        let why = "keys are upstream's: there is an upstream".to_owned();
        return Err((StatusCode::NOT_IMPLEMENTED, why));
    }
    let asked = Asked::parse(body, instance.store.databases())
        .map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    let now_ms = clock::unix_ms();
    let of_tags = {
        let mut view = View::new(instance.store.lock_none(), now_ms);
        let tags = asked.tags.iter().map(String::as_bytes);
        view.invalidate_tags(asked.db, tags, asked.is_soft)
    };
    let removed = |key: &&String| {
        let key = instance.store.key(key.as_bytes());
        let mut view = View::new(instance.store.lock(key.hash), now_ms);
        view.remove(Place { db: asked.db, key })
    };
    let keys = asked.keys.iter().filter(removed).count();
    Ok(json!({ "keys": keys, "of_tags": of_tags }))
}

fn is_authorized(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
    given.is_some_and(|given| is_same_secret(given, token.as_bytes()))
}

/// What is to be invalidated.
#[derive(Debug, Default)]
struct Asked {
    keys: Vec<String>,
    tags: Vec<String>,
    db: u16,
    is_soft: bool,
}

impl Asked {
    fn parse(body: &[u8], databases: u16) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let Value::Object(fields) = value else {
            return Err("an object is expected".to_owned());
        };
        let mut asked = Self::default();
        for (name, value) in fields {
            asked.take(&name, value, databases)?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: Value, databases: u16) -> Result<(), String> {
        match (name, value) {
            ("keys", Value::Array(list)) => self.keys = texts(name, list)?,
            ("tags", Value::Array(list)) => self.tags = texts(name, list)?,
            ("soft", Value::Bool(is_soft)) => self.is_soft = is_soft,
            ("db", Value::Number(db)) => {
                let db = db.as_u64().and_then(|db| u16::try_from(db).ok());
                let db = db.filter(|db| *db < databases);
                self.db = db.ok_or_else(|| "db: there is no such database".to_owned())?;
            }
            ("keys" | "tags" | "soft" | "db", _) => return Err(format!("{name}: not understood")),
            _ => return Err(format!("{name}: unknown")),
        }
        Ok(())
    }
}

fn texts(name: &str, list: Vec<Value>) -> Result<Vec<String>, String> {
    let text = |value| match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(format!("{name}: a list of texts is expected"))
        }
    };
    list.into_iter().map(text).collect()
}
