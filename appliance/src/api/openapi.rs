//! `GET /api/v1/openapi.json`: the API described (OpenAPI 3.1), from the types that it is written with.
//!
//! Which routes there are, and who may use them, [`super::router`] says; `operations` says of each what it takes and
//! answers. A test fails when one has no description.

mod operations;

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub use operations::of;

use super::plan::Planned;
use super::router::{Access, Route, routes};
use super::{guard, once, paging};
use crate::web::problem::{self, Problem};

type Make = fn(&mut SchemaGenerator) -> Schema;

/// What a route is for, takes and answers.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub summary: &'static str,
    query: Option<Make>,
    body: Option<(&'static str, Make)>,
    body_may_be_missing: bool,
    status: u16,
    kind: &'static str,
    answer: Option<Make>,
    is_list: bool,
    /// Takes `If-Match`.
    has_version: bool,
}

const JSON: &str = "application/json";

pub async fn get() -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default().into());
    ([(header::CONTENT_TYPE, JSON)], DOCUMENT.clone()).into_response()
}

/// The whole description.
pub fn document() -> Value {
    let mut makers = Makers::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let Some(operation) = of(route.method, route.path) else { continue };
        let described = operation.describe(&route, &mut makers);
        // The rest of a path is a parameter like another.
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = described;
    }
    let schemas = makers.answers.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Elisandra",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Times are milliseconds since 1970-01-01T00:00:00Z. Errors are problems (RFC 9457) whose detail is a sentence. docs/api.md tells how one logs in.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }, { "cookie": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "Of a session of eli, or made for a program." },
                "cookie": { "type": "apiKey", "in": "cookie", "name": guard::COOKIE, "description": "Of a session in a browser." },
            },
        },
    })
}

/// Types as they are read and as they are written: what has a default may be left out in one, and is there in the other.
struct Makers {
    bodies: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Makers {
    fn new() -> Makers {
        let mut bodies = SchemaSettings::draft2020_12().for_deserialize();
        bodies.meta_schema = None;
        bodies.inline_subschemas = true;
        let mut answers = SchemaSettings::draft2020_12().for_serialize();
        answers.meta_schema = None;
        answers.definitions_path = "/components/schemas".into();
        Makers { bodies: bodies.into_generator(), answers: answers.into_generator() }
    }
}

fn schema_of<T: JsonSchema>(maker: &mut SchemaGenerator) -> Schema {
    maker.subschema_for::<T>()
}

impl Operation {
    const fn says(summary: &'static str) -> Operation {
        Operation {
            summary,
            query: None,
            body: None,
            body_may_be_missing: false,
            status: 200,
            kind: JSON,
            answer: None,
            is_list: false,
            has_version: false,
        }
    }

    fn answers<T: JsonSchema>(self) -> Operation {
        Operation { answer: Some(schema_of::<T>), ..self }
    }

    /// A list that comes in parts.
    fn lists<T: JsonSchema>(self) -> Operation {
        Operation { is_list: true, ..self.answers::<Vec<T>>().asked::<paging::Wanted>() }
    }

    fn takes<T: JsonSchema>(self) -> Operation {
        self.takes_as::<T>(JSON)
    }

    fn takes_as<T: JsonSchema>(self, kind: &'static str) -> Operation {
        Operation { body: Some((kind, schema_of::<T>)), ..self }
    }

    /// With parameters after `?`.
    fn asked<T: JsonSchema>(self) -> Operation {
        Operation { query: Some(schema_of::<T>), ..self }
    }

    const fn or_nothing(self) -> Operation {
        Operation { body_may_be_missing: true, ..self }
    }

    const fn makes(self) -> Operation {
        Operation { status: 201, ..self }
    }

    /// To a WebSocket.
    const fn upgrades(self) -> Operation {
        Operation { status: 101, kind: "application/octet-stream", ..self }
    }

    const fn as_kind(self, kind: &'static str) -> Operation {
        Operation { kind, ..self }
    }

    const fn of_version(self) -> Operation {
        Operation { has_version: true, ..self }
    }

    fn describe(&self, route: &Route, makers: &mut Makers) -> Value {
        let mut parameters: Vec<Value> = in_path(route.path);
        parameters.extend(self.query.iter().flat_map(|query| in_query(&query(&mut makers.bodies))));
        parameters.extend(self.headers(route));
        let mut described = json!({
            "summary": self.summary,
            "operationId": id(route),
            "tags": [tag(route.path)],
            "parameters": parameters,
            "responses": self.responses(route, makers),
        });
        match route.access {
            Access::Open => described["security"] = json!([]),
            Access::Page => described["x-role"] = json!("viewer"),
            Access::Api(role) | Access::Own(role) => described["x-role"] = json!(role.word()),
        }
        if let Some((kind, body)) = &self.body {
            let schema = body(&mut makers.bodies);
            described["requestBody"] =
                json!({ "required": !self.body_may_be_missing, "content": { *kind: { "schema": schema } } });
        }
        described
    }

    fn headers(&self, route: &Route) -> Vec<Value> {
        let mut headers = Vec::new();
        let mut header = |name: &str, what: &str, schema: Value| {
            let schema = json!({ "name": name, "in": "header", "description": what, "schema": schema });
            headers.push(schema);
        };
        if self.can_be_planned(route) {
            let what = "With 1, nothing is done: the answer is what would be.";
            header("Elisandra-Plan", what, json!({ "type": "string", "enum": ["1"] }));
        }
        if once::takes_a_key(route.method, route.path) {
            let what = "The request with the same key and body is carried out once within a day.";
            let schema =
                json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$" });
            header("Idempotency-Key", what, schema);
        }
        if self.has_version {
            header("If-Match", "Only if this is still its version (ETag).", json!({ "type": "string" }));
        }
        if self.has_etag(route) {
            header("If-None-Match", "304 if this is its version.", json!({ "type": "string" }));
        }
        headers
    }

    fn can_be_planned(&self, route: &Route) -> bool {
        let streamed = route.path == "/api/v1/media";
        matches!(route.access, Access::Api(_)) && route.method != "GET" && !streamed
    }

    fn has_etag(&self, route: &Route) -> bool {
        route.method == "GET" && route.path.starts_with("/api/") && self.kind == JSON
    }

    fn responses(&self, route: &Route, makers: &mut Makers) -> Value {
        let mut responses: Map<String, Value> = Map::new();
        let maker = &mut makers.answers;
        let answer = self.answer.map(|answer| answer(maker).to_value());
        let planned = self.can_be_planned(route).then(|| maker.subschema_for::<Planned>().to_value());
        let done = match (answer, &planned) {
            (Some(answer), Some(planned)) if self.status == 200 => {
                Some(json!({ "anyOf": [answer, planned] }))
            }
            (answer, _) => answer,
        };
        responses.insert(self.status.to_string(), content("Done.", self.kind, done));
        if let Some(planned) = planned.filter(|_| self.status != 200) {
            responses.insert("200".to_owned(), content("What would be done.", JSON, Some(planned)));
        }
        if self.is_list {
            let next = json!({
                "description": "Where the next part is, with rel=next, if there is one.",
                "schema": { "type": "string" },
            });
            responses["200"]["headers"] = json!({ "Link": next });
        }
        if self.has_etag(route) {
            let etag = json!({ "description": "Its version.", "schema": { "type": "string" } });
            responses["200"]["headers"]["ETag"] = etag;
            responses.insert("304".to_owned(), json!({ "description": "It is still of this version." }));
        }
        if self.kind == "text/html" {
            let what = "Off to where one logs in, or to where one is once that is done.";
            responses.insert("303".to_owned(), json!({ "description": what }));
        }
        for (status, what) in self.errors(route) {
            let problem = maker.subschema_for::<Problem>().to_value();
            let mut described = content(what, problem::KIND, Some(problem));
            if self.kind == "text/html" && status == "404" {
                // A page that is not there is one all the same.
                described["content"]["text/html"] = json!({ "schema": { "type": "string" } });
            }
            responses.insert(status.to_string(), described);
        }
        Value::Object(responses)
    }

    fn errors(&self, route: &Route) -> Vec<(&'static str, &'static str)> {
        let changes = route.method != "GET";
        let named = route.path.contains('{');
        let logged_in = matches!(route.access, Access::Api(_) | Access::Own(_));
        let mut errors = vec![("400", "The request cannot be read.")];
        errors.extend(logged_in.then_some(("401", "Nobody is logged in.")));
        errors.extend((logged_in || changes).then_some(("403", "Who is logged in may not do this.")));
        errors.extend(named.then_some(("404", "There is no such thing.")));
        errors.extend(changes.then_some(("409", "Something is in the way.")));
        errors.extend(self.has_version.then_some(("412", "It is of another version by now.")));
        errors.extend(self.body.map(|_| ("413", "The body is too large.")));
        errors.extend(self.body.map(|_| ("415", "The body is of another type.")));
        errors.push(("422", "What is asked for cannot be."));
        errors.extend((route.access == Access::Open).then_some(("429", "There were too many attempts.")));
        errors.push(("default", "Anything else that went wrong; 503 while the database is away."));
        errors
    }
}

fn content(what: &str, kind: &str, schema: Option<Value>) -> Value {
    json!({ "description": what, "content": { kind: { "schema": schema.unwrap_or(json!({})) } } })
}

/// `get_machines_id_timeline`; of what is no part of the API `get_page_machines_id`
fn id(route: &Route) -> String {
    let (page, path) = match route.path.strip_prefix("/api/v1") {
        Some(path) => ("", path),
        None => ("_page", route.path),
    };
    let path = path.replace(['{', '*', '}'], "").replace(['/', '.'], "_");
    format!("{}{page}{}", route.method.to_lowercase(), if path == "_" { "_home" } else { &path })
}

/// `machines`
fn tag(path: &str) -> &str {
    match path.strip_prefix("/api/v1/") {
        Some(path) => path.split('/').next().unwrap_or(path),
        None => "pages",
    }
}

fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let name = name.trim_start_matches('*');
            let schema = match name {
                "position" => json!({ "type": "integer", "format": "int64" }),
                _ => json!({ "type": "string", "minLength": 1 }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect()
}

fn in_query(schema: &Schema) -> Vec<Value> {
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    fields
        .map(|(name, schema)| {
            let mut parameter = json!({ "name": name, "in": "query", "schema": in_address(schema) });
            if let Some(about) = schema.get("description") {
                parameter["description"] = about.clone();
            }
            parameter
        })
        .collect()
}

/// What is not said is left out; there is no way to write null in an address.
fn in_address(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(kinds) = schema.get("type").and_then(Value::as_array) {
        let kind = kinds.iter().find(|kind| *kind != "null").cloned();
        schema["type"] = kind.unwrap_or_default();
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("default");
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let ids: Vec<String> = routes().iter().map(id).collect();
        for (route, id) in routes().iter().zip(&ids) {
            let what = format!("{} {}", route.method, route.path);
            let operation = of(route.method, route.path);
            assert!(operation.is_some(), "{what} has no description; add one to api/openapi/operations.rs");
            assert_eq!(ids.iter().filter(|other| *other == id).count(), 1, "{what}: {id} is not its own");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: Vec<&str> =
            text.split("\"$ref\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 50, "{}", references.len());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
