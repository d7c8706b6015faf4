//! `eli query` and `eli show NOUN NAME`.

use clap::Args;
use serde_json::{Map, Value};

use super::client::Client;
use super::ending::Own;
use super::table::{Table, plain};
use super::{Output, list};

#[derive(Args)]
pub struct Query {
    /// machines, hosts, vms, services, packages, racks, switches, ports, media, profiles, leases, subnets, reservations, users, events; without one, all fields are told
    noun: Option<String>,
    /// An expression (CEL) over the fields of the noun; without one, everything is found
    expression: Option<String>,
    /// As of a position of the log, an RFC 3339 time, or -2h
    #[arg(long, allow_hyphen_values = true)]
    at: Option<String>,
    /// Fields to show, separated by commas
    #[arg(long, value_delimiter = ',')]
    fields: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Noun {
    noun: String,
    fields: Vec<Field>,
}

#[derive(serde::Deserialize)]
struct Field {
    name: String,
    kind: String,
    about: String,
    column: bool,
}

pub async fn query(client: &Client, query: &Query, output: Output) -> anyhow::Result<()> {
    let nouns: Vec<Noun> = client.list("/query").await?;
    let Some(noun) = &query.noun else {
        tell(&nouns);
        return Ok(());
    };
    let fields = fields(&nouns, noun, query, output);
    let mut path = format!("/query/{}?", escape(noun));
    for (key, value) in [
        ("filter", query.expression.clone()),
        ("at", query.at.clone()),
        ("fields", (!fields.is_empty()).then(|| fields.join(","))),
    ] {
        if let Some(value) = value {
            path += &format!("&{key}={}", escape(&value));
        }
    }
    let objects: Vec<Map<String, Value>> = client.list(&path).await?;
    match output {
        Output::Json | Output::Yaml => output.document(&objects),
        Output::Names => {
            for object in &objects {
                println!("{}", plain(&cell(object.values().next().unwrap_or(&Value::Null))));
            }
            Ok(())
        }
        Output::Table => {
            let heads: Vec<String> = fields.iter().map(|field| field.to_uppercase()).collect();
            let mut table = Table::new(&heads);
            for object in &objects {
                let cells = fields.iter().map(|field| cell(object.get(field).unwrap_or(&Value::Null)));
                table.row(cells.collect(), Vec::new());
            }
            table.print("Nothing is like that.");
            Ok(())
        }
    }
}

/// What is asked of the appliance: all for JSON, the usual columns for a table, the name for a pipe.
fn fields(nouns: &[Noun], noun: &str, query: &Query, output: Output) -> Vec<String> {
    let known = nouns.iter().find(|known| known.noun == noun || known.noun.strip_suffix('s') == Some(noun));
    let all = known.map(|noun| noun.fields.as_slice()).unwrap_or_default();
    let named = |name: &str| all.iter().any(|field| field.name == name);
    match output {
        _ if !query.fields.is_empty() => query.fields.clone(),
        Output::Json | Output::Yaml => Vec::new(),
        Output::Table => all.iter().filter(|field| field.column).map(|field| field.name.clone()).collect(),
        Output::Names if named("position") => vec!["position".to_owned()],
        Output::Names if named("name") => vec!["name".to_owned()],
        Output::Names => all.iter().take(1).map(|field| field.name.clone()).collect(),
    }
}

fn tell(nouns: &[Noun]) {
    for noun in nouns {
        println!("{}", noun.noun);
        for field in &noun.fields {
            println!("    {:<28}{:<9}{}", field.name, field.kind, field.about);
        }
    }
}

/// What is wanted of a thing beside what is seen of it.
pub async fn show(client: &Client, noun: &str, name: &str, output: Output) -> anyhow::Result<()> {
    let nouns: Vec<Noun> = client.list("/query").await?;
    let known = nouns.iter().find(|known| {
        known.noun == noun
            || known.noun.strip_suffix('s') == Some(noun)
            || known.noun.strip_suffix("es") == Some(noun)
    });
    let fields = known.map(|noun| noun.fields.as_slice()).unwrap_or_default();
    let quoted = serde_json::to_string(name)?;
    let filter = if fields.iter().any(|field| field.name == "id") {
        format!("name == {quoted} || id == {quoted}")
    } else {
        format!("name == {quoted}")
    };
    let path = format!("/query/{}?filter={}", escape(noun), escape(&filter));
    let objects: Vec<Map<String, Value>> = client.list(&path).await?;
    let object = objects.first().ok_or_else(|| Own::missing(noun, name))?;
    if output.one(object, name)? {
        return Ok(());
    }
    let value = |field: &str| object.get(field).map(cell).unwrap_or_default();
    let mut table = Table::new(&["FIELD", "WANTED", "NOW"]);
    for field in fields.iter().filter(|field| !field.name.starts_with("observed.")) {
        // Side by side: a VM that is to run, and what its host says of it.
        let seen = if field.name == "phase" { value("observed.state") } else { String::new() };
        let (wanted, now) = match field.name.as_str() {
            "waiting" => continue,
            // Seen by the agent alone; nobody wants it to be so.
            "version" if noun.starts_with("host") => (String::new(), value("version")),
            name => (value(name), seen),
        };
        table.row(vec![field.name.clone(), wanted, now], Vec::new());
    }
    for field in
        fields.iter().filter(|field| field.name.starts_with("observed.") && field.name != "observed.state")
    {
        let name = field.name.trim_start_matches("observed.").to_owned();
        table.row(vec![name, String::new(), value(&field.name)], Vec::new());
    }
    table.print("");
    for wait in object.get("waiting").and_then(Value::as_array).into_iter().flatten() {
        println!("Waits: {}", plain(&cell(wait)));
    }
    if known.is_some_and(|known| known.noun == "machines") {
        list::trouble(client, name).await?;
    }
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// For a query string: everything but letters and digits.
fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|b| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    });
    escaped.collect()
}
