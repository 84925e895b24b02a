//! The fourteen words of OpenAPI's schemas that Immich's description uses. A crate for all of JSON Schema brings forty
//! others, for a server that is built only in tests.

use serde_json::Value;

/// What a schema is that names another one.
pub(crate) fn resolve<'a>(schemas: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    name.map_or(schema, |name| &schemas[name])
}

/// Adds to `faults` what is wrong with `value`, as `path: words`. `strict`: what is not described is wrong, too.
pub(crate) fn judge(
    schemas: &Value,
    schema: &Value,
    value: &Value,
    strict: bool,
    path: &str,
    faults: &mut Vec<String>,
) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let schema = resolve(schemas, schema);
    let mut fault = |words: String| faults.push(format!("{path}: {words}"));
    if let Some(kind) = schema["type"].as_str() {
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            _ => false,
        };
        if !(fits || value.is_null() && schema["nullable"] == true) {
            return fault(format!("expected {kind}, received {value}"));
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        fault(format!("{value} is none of {}", schema["enum"]));
    }
    let number = value.as_f64();
    if number.is_some_and(|n| schema["minimum"].as_f64().is_some_and(|min| n < min)) {
        fault(format!("{value} is less than {}", schema["minimum"]));
    }
    if number.is_some_and(|n| schema["maximum"].as_f64().is_some_and(|max| n > max)) {
        fault(format!("{value} is more than {}", schema["maximum"]));
    }
    let text = value.as_str();
    if text.is_some_and(|text| schema["minLength"].as_u64().is_some_and(|min| (text.len() as u64) < min)) {
        fault("too short".into());
    }
    // The patterns of the description say in regular expressions what these formats are.
    match (schema["format"].as_str(), text) {
        (Some("uuid"), Some(text)) if !is_uuid(text) => fault(format!("Invalid UUID: {text:?}")),
        (Some("date-time"), Some(text)) if !is_time(text) => fault(format!("Invalid ISO datetime: {text:?}")),
        _ => {}
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        judge(schemas, part, value, strict, path, faults);
    }
    if let Some(list) = value.as_array() {
        if schema["minItems"].as_u64().is_some_and(|min| (list.len() as u64) < min) {
            faults.push(format!("{path}: Too small: expected at least {} items", schema["minItems"]));
        }
        for (at, item) in list.iter().enumerate() {
            judge(schemas, &schema["items"], item, strict, &format!("{path}/{at}"), faults);
        }
    }
    if let Some(map) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                faults.push(format!("{path}/{name}: missing"));
            }
        }
        for (name, inner) in map {
            match schema["properties"].get(name) {
                Some(described) => judge(schemas, described, inner, strict, &format!("{path}/{name}"), faults),
                None if strict && schema["properties"].is_object() && schema["additionalProperties"].is_null() => {
                    faults.push(format!("{path}/{name}: unknown"));
                }
                None => {}
            }
        }
    }
}

/// Of version 4, which is what Immich makes.
fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        19 => matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B'),
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

/// With a zone, which the pattern demands, and four digits of a year.
fn is_time(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_digit) && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(value: Value) -> Vec<String> {
        let schemas = json!({
            "Body": {"type": "object", "required": ["ids"], "properties": {
                "ids": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "uuid"}},
                "when": {"type": "string", "format": "date-time", "nullable": true},
                "rating": {"type": "integer", "minimum": 1, "maximum": 5},
                "kind": {"$ref": "#/components/schemas/Kind"},
            }},
            "Kind": {"type": "string", "enum": ["a", "b"]},
        });
        let mut faults = Vec::new();
        judge(&schemas, &json!({"$ref": "#/components/schemas/Body"}), &value, true, "", &mut faults);
        faults
    }

    #[test]
    fn what_is_described_passes_and_nothing_else_does() {
        let id = "3fe388e4-2078-44d7-b36c-39d9dee3a657";
        assert_eq!(faults(json!({"ids": [id], "when": null, "rating": 5, "kind": "a"})), Vec::<String>::new());
        assert_eq!(faults(json!({"ids": [id], "when": "2020-02-29T10:00:00.000Z"})), Vec::<String>::new());
        for wrong in [
            json!({}),
            json!({"ids": []}),
            json!({"ids": [""]}),
            json!({"ids": "x"}),
            json!({"ids": [id], "when": "2020-02-30T10:00:00Z"}),
            json!({"ids": [id], "when": "2020-02-29T10:00:00"}),
            json!({"ids": [id], "rating": 0}),
            json!({"ids": [id], "kind": "c"}),
            json!({"ids": [id], "more": 1}),
        ] {
            assert_eq!(faults(wrong.clone()).len(), 1, "{wrong}");
        }
    }
}
