//! What is left of a body without its measured values: what nothing measures, and so must be the same.
//!
//! Takes out only what it can take out whole; everything else counts as it is, also what cannot be read.

use crate::content::{Content, Family};
use crate::extract::Extractor;
use crate::facts::Facts;
use crate::form::Field;
use crate::json::{Json, Unreadable};

#[derive(PartialEq)]
enum Rest {
    Form(Vec<Field>),
    Json(Json),
}

/// Whether two requests with equal headers have the same body, byte for byte, or but for what stands at these places.
pub(crate) fn is_same(one: &Facts, other: &Facts, places: &[&Extractor]) -> bool {
    let same = |one: Rest| rest(other, places).is_ok_and(|other| one == other);
    one.body.sha256() == other.body.sha256() || (!places.is_empty() && rest(one, places).is_ok_and(same))
}

fn rest(facts: &Facts, places: &[&Extractor]) -> Result<Rest, Unreadable> {
    let content = Content::new(facts);
    match content.media()?.family {
        Family::Json => {
            let mut json = content.json()?.clone();
            places.iter().for_each(|place| take_out(&mut json, place));
            Ok(Rest::Json(json))
        }
        Family::Form => {
            let is_measured =
                |name: &str| places.iter().any(|place| matches!(place, Extractor::Form(at) if at == name));
            let fields = content.fields()?.into_iter().filter(|(name, _)| !is_measured(name));
            Ok(Rest::Form(fields.collect()))
        }
        Family::Binary | Family::Csv | Family::Multipart | Family::Text | Family::Xml => {
            Err(Unreadable("the body is neither JSON nor a urlencoded form"))
        }
    }
}

fn take_out(json: &mut Json, place: &Extractor) {
    match place {
        Extractor::JsonValue(pointer) => json.remove(pointer),
        // Only a list of plain values: items with more in them say more than what is measured.
        Extractor::JsonEach(pointer, path) if path.as_str().ends_with("/*") => {
            let is_plain = |item: &Json| matches!(item, Json::Number(_) | Json::Text(_));
            let items = json.at(pointer).and_then(Json::items);
            if items.is_some_and(|items| items.iter().all(is_plain)) {
                json.remove(pointer);
            }
        }
        Extractor::BodySize
        | Extractor::CsvColumn(_)
        | Extractor::CsvRows
        | Extractor::Form(_)
        | Extractor::GraphqlOperation
        | Extractor::GraphqlRoot
        | Extractor::Header(_)
        | Extractor::JsonEach(..)
        | Extractor::JsonLength(_)
        | Extractor::JsonrpcMethod
        | Extractor::McpTool
        | Extractor::Multipart(_)
        | Extractor::Path(_)
        | Extractor::Query(_) => {}
    }
}
