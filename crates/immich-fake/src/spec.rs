//! Immich's description of its API, as a judge of requests and of this server's own answers.

use serde_json::{Map, Value, json};

use crate::schema;

const DESCRIPTION: &str = include_str!("../data/openapi-v3.1.0.json");

/// A version, as in `GET /server/version`.
pub(crate) type Version = (u32, u32, u32);

/// The description, as far as a version has it.
pub(crate) struct Spec {
    paths: Vec<(Vec<String>, String, Map<String, Value>)>,
    schemas: Value,
    answers_checked: bool,
}

/// One operation of the description.
pub(crate) struct Operation {
    /// `PUT /albums/{id}/assets`
    pub name: String,
    pub described: Value,
    /// The value of `{id}` or `{name}`.
    pub argument: Option<String>,
}

impl Spec {
    pub(crate) fn new(version: Version) -> Self {
        let mut description: Value = serde_json::from_str(DESCRIPTION).unwrap_or_default();
        if version < (3, 0, 0) {
            as_before_v3(&mut description);
        }
        let since = |path: &str| match path {
            p if p.starts_with("/queues") => (2, 4, 0),
            "/admin/maintenance" => (2, 3, 0),
            "/admin/maintenance/status" => (2, 5, 0),
            _ => (0, 0, 0),
        };
        let mut paths: Vec<_> = description["paths"]
            .as_object()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .filter(|(path, _)| version >= since(path))
            .filter_map(|(path, methods)| {
                let steps = path.split('/').skip(1).map(str::to_owned).collect();
                Some((steps, path, methods.as_object()?.clone()))
            })
            .collect();
        // `/assets/statistics` before `/assets/{id}`.
        paths.sort_by_key(|(_, path, _)| path.matches('{').count());
        let schemas = description["components"]["schemas"].clone();
        Self { paths, schemas, answers_checked: version >= (3, 0, 0) }
    }

    /// The operation of a path without `/api`.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Operation> {
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        self.paths.iter().find_map(|(known, whole, methods)| {
            let fits = known.len() == steps.len()
                && known.iter().zip(&steps).all(|(k, s)| k == s || (k.starts_with('{') && !s.is_empty()));
            let described = methods.get(&method.to_lowercase()).filter(|_| fits)?;
            let argument = known.iter().zip(&steps).find(|(k, _)| k.starts_with('{')).map(|(_, s)| (*s).to_owned());
            Some(Operation { name: format!("{method} {whole}"), described: described.clone(), argument })
        })
    }

    /// What is wrong with path, query and JSON body: Immich's form of it, path and words.
    pub(crate) fn check(&self, operation: &Operation, query: &[(String, String)], body: Option<&Value>) -> Vec<String> {
        let mut faults = Vec::new();
        let parameters = operation.described["parameters"].as_array().cloned().unwrap_or_default();
        for (name, value) in query {
            match parameters.iter().find(|p| p["in"] == "query" && p["name"] == **name) {
                None => faults.push(format!("query {name}: unknown")),
                Some(p) => faults.extend(self.judge(&p["schema"], &typed(value, &self.kind(&p["schema"])), true)),
            }
        }
        for p in &parameters {
            if p["in"] == "path" {
                let value = operation.argument.clone().map_or(Value::Null, Value::String);
                faults.extend(self.judge(&p["schema"], &value, true));
            } else if p["required"] == true && p["in"] == "query" && !query.iter().any(|(n, _)| p["name"] == **n) {
                faults.push(format!("query {}: missing", p["name"]));
            }
        }
        let schema = &operation.described["requestBody"]["content"]["application/json"]["schema"];
        match (schema.is_null(), body) {
            (false, Some(body)) => faults.extend(self.judge(schema, body, true)),
            (false, None) => faults.push("body: missing".into()),
            (true, Some(_)) if operation.described["requestBody"].is_null() => faults.push("body: unknown".into()),
            _ => {}
        }
        faults
    }

    /// What is wrong with the fields of a form; files stand in it as the text `file`.
    pub(crate) fn check_form(&self, operation: &Operation, fields: &[(String, String)]) -> Vec<String> {
        let schema = &operation.described["requestBody"]["content"]["multipart/form-data"]["schema"];
        let dto = self.resolve(schema);
        let mut form = Map::new();
        let mut faults = Vec::new();
        for (name, value) in fields {
            let value = typed(value, &self.kind(&dto["properties"][name]));
            if form.insert(name.clone(), value).is_some() {
                faults.push(format!("{name}: twice"));
            }
        }
        faults.extend(self.judge(schema, &Value::Object(form), true));
        faults
    }

    /// What is wrong with an answer of this server itself.
    pub(crate) fn check_answer(&self, operation: &Operation, status: u16, body: &Value) -> Vec<String> {
        let described = &operation.described["responses"][status.to_string()];
        if !self.answers_checked || described.is_null() || body.is_null() {
            return Vec::new();
        }
        let schema = &described["content"]["application/json"]["schema"];
        if schema.is_null() { Vec::new() } else { self.judge(schema, body, false) }
    }

    /// The queues of jobs there are.
    pub(crate) fn queue_names(&self) -> Vec<String> {
        let names = self.schemas["QueueName"]["enum"].as_array();
        names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        schema::resolve(&self.schemas, schema)
    }

    fn kind(&self, schema: &Value) -> String {
        self.resolve(schema)["type"].as_str().unwrap_or("string").to_owned()
    }

    /// What is asked may hold nothing unknown; what is answered may.
    fn judge(&self, schema: &Value, value: &Value, strict: bool) -> Vec<String> {
        let mut faults = Vec::new();
        schema::judge(&self.schemas, schema, value, strict, "", &mut faults);
        faults
    }
}

/// A parameter or a field of a form, as what it is meant to be.
fn typed(value: &str, kind: &str) -> Value {
    match (kind, value) {
        ("boolean", "true") => Value::Bool(true),
        ("boolean", "false") => Value::Bool(false),
        ("integer" | "number", digits) => {
            digits.parse::<i64>().map_or_else(|_| Value::String(digits.into()), Value::from)
        }
        ("array" | "object", text) => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into())),
        (_, text) => Value::String(text.into()),
    }
}

/// What v1.135 to v2 want otherwise.
fn as_before_v3(description: &mut Value) {
    let upload = &mut description["components"]["schemas"]["AssetMediaCreateDto"];
    for name in ["deviceAssetId", "deviceId"] {
        upload["properties"][name] = json!({"type": "string", "minLength": 1});
        if let Some(required) = upload["required"].as_array_mut() {
            required.push(json!(name));
        }
    }
    upload["properties"]["duration"] = json!({"type": "string"});
    let boolean = |name: &str| json!({"name": name, "in": "query", "required": false, "schema": {"type": "boolean"}});
    let mut albums = vec![boolean("shared")];
    albums.push(json!({"name": "assetId", "in": "query", "required": false, "schema": {"type": "string"}}));
    description["paths"]["/albums"]["get"]["parameters"] = Value::Array(albums);
    if let Some(parameters) = description["paths"]["/albums/{id}"]["get"]["parameters"].as_array_mut() {
        parameters.push(boolean("withoutAssets"));
    }
}
