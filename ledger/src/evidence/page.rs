//! The summary as a page to read. Every value is escaped; the page loads nothing.

use serde_json::Value;

/// The content of `summary.html`.
pub(super) fn page(summary: &Value) -> String {
    format!("{HEAD}{}\n</body></html>\n", render(summary))
}

fn render(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", render(item))).collect();
            format!("<ol>{items}</ol>")
        }
        Value::Object(members) => {
            let row = |(name, value): (&String, &Value)| {
                format!("<tr><th>{}</th><td>{}</td></tr>\n", escaped(name), render(value))
            };
            format!("<table>{}</table>", members.iter().map(row).collect::<String>())
        }
        Value::String(text) => escaped(text),
        Value::Bool(_) | Value::Null | Value::Number(_) => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#x27;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Evidence</title><style>
body{font:15px/1.5 sans-serif;margin:2em}table{border-collapse:collapse}
th,td{text-align:left;vertical-align:top;padding:.1em 1em .1em 0;border-bottom:1px solid #ccc}
</style></head><body><h1>Evidence</h1><p>Derived from events.jsonl and checked against it by the verifiers.</p>
";
