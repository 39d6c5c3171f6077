//! What a GraphQL request asks for: the operation and the fields at its root.
//!
//! All operations of a document count, whichever the server is told to run. A request whose document is elsewhere, such as
//! a persisted one named by its hash, has no reading.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use apollo_parser::Parser;
use apollo_parser::cst::{Definition, Document, OperationDefinition, Selection, SelectionSet};

use crate::content::{Content, Family};
use crate::form;
use crate::json::{Json, Unreadable};
use crate::spelling::Spelling;

/// What kind of operation a field stands in; the more it may change, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Query,
    Subscription,
    Mutation,
}

/// A field at the root of an operation, by its name, not its alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) operation: Operation,
    pub(crate) field: String,
}

/// The fragments of one document, by name.
type Fragments = BTreeMap<String, SelectionSet>;

/// The root fields of every document in the request, at least one.
pub(crate) fn roots(content: &Content<'_>) -> Result<Vec<Root>, Unreadable> {
    let mut roots = Vec::new();
    for document in documents(content)? {
        read_document(&document, &mut roots)?;
        if roots.len() > MAX_ROOTS {
            return Err(Unreadable("the GraphQL request asks for too much at once"));
        }
    }
    Ok(roots)
}

// === impl Operation ===

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mutation => "mutation",
            Self::Query => "query",
            Self::Subscription => "subscription",
        })
    }
}

/// The documents, wherever servers look for them: a JSON object or a list of such, a form, the body itself, the query.
fn documents(content: &Content<'_>) -> Result<Vec<String>, Unreadable> {
    let facts = content.facts();
    let query = facts.query.as_deref();
    if facts.body.is_empty() {
        return Ok(vec![form::only(&form::fields(query.unwrap_or_default())?, DOCUMENT, &[])?]);
    }
    Spelling::of(DOCUMENT).refuse_in_query(query, &[])?;
    let media = content.media()?;
    match media.family {
        Family::Form => Ok(vec![form::only(&content.fields()?, DOCUMENT, &[])?]),
        Family::Json => {
            let read = content.json()?;
            read.items().unwrap_or(std::slice::from_ref(read)).iter().map(document_of).collect()
        }
        Family::Binary if media.essence == "application/graphql" => Ok(vec![content.text()?.to_owned()]),
        Family::Binary | Family::Csv | Family::Multipart | Family::Text | Family::Xml => {
            Err(Unreadable("the body is none that GraphQL servers agree on"))
        }
    }
}

fn document_of(request: &Json) -> Result<String, Unreadable> {
    let found = request.at(&[DOCUMENT.to_owned()]);
    match found {
        _ if request.has_rival(DOCUMENT) => Err(Unreadable("another key may be read as the one that counts")),
        Some(Json::Text(text)) => Ok(text.clone()),
        Some(_) | None => Err(Unreadable("the GraphQL document is not in the request")),
    }
}

fn read_document(text: &str, roots: &mut Vec<Root>) -> Result<(), Unreadable> {
    let tree = Parser::new(text).recursion_limit(MAX_DEPTH).token_limit(MAX_TOKENS).parse();
    if tree.errors().len() > 0 {
        return Err(Unreadable("the GraphQL document is malformed or too large"));
    }
    let (operations, fragments) = split(&tree.document())?;
    for operation in &operations {
        let kind = kind_of(operation);
        let mut fields = BTreeSet::new();
        let selected = operation.selection_set().ok_or(MALFORMED)?;
        collect(&selected, &fragments, &mut BTreeSet::new(), &mut fields)?;
        roots.extend(fields.into_iter().map(|field| Root { operation: kind, field }));
    }
    if operations.is_empty() { Err(Unreadable("the GraphQL document has no operation")) } else { Ok(()) }
}

fn split(document: &Document) -> Result<(Vec<OperationDefinition>, Fragments), Unreadable> {
    let (mut operations, mut fragments) = (Vec::new(), Fragments::new());
    for definition in document.definitions() {
        if let Definition::OperationDefinition(operation) = definition {
            operations.push(operation);
        } else if let Definition::FragmentDefinition(fragment) = definition {
            let name = fragment.fragment_name().and_then(|name| name.name()).ok_or(MALFORMED)?;
            let selected = fragment.selection_set().ok_or(MALFORMED)?;
            if fragments.insert(name.text().to_string(), selected).is_some() {
                return Err(Unreadable("the GraphQL document has two fragments of one name"));
            }
        } else {
            return Err(Unreadable("the GraphQL document defines types"));
        }
    }
    Ok((operations, fragments))
}

fn kind_of(operation: &OperationDefinition) -> Operation {
    match operation.operation_type() {
        Some(kind) if kind.mutation_token().is_some() => Operation::Mutation,
        Some(kind) if kind.subscription_token().is_some() => Operation::Subscription,
        // Without a keyword it is a query.
        Some(_) | None => Operation::Query,
    }
}

/// The names of all fields selected here, through fragments; each fragment is looked into once.
fn collect(
    selected: &SelectionSet,
    fragments: &Fragments,
    seen: &mut BTreeSet<String>,
    fields: &mut BTreeSet<String>,
) -> Result<(), Unreadable> {
    for selection in selected.selections() {
        match selection {
            Selection::Field(field) => {
                fields.insert(field.name().ok_or(MALFORMED)?.text().to_string());
            }
            Selection::FragmentSpread(spread) => {
                let name = spread.fragment_name().and_then(|name| name.name()).ok_or(MALFORMED)?.text().to_string();
                let fragment = fragments.get(&name).ok_or(Unreadable("a GraphQL fragment is not defined"))?;
                if seen.len() > MAX_DEPTH {
                    return Err(Unreadable("the GraphQL document has too many fragments"));
                }
                if seen.insert(name) {
                    collect(fragment, fragments, seen, fields)?;
                }
            }
            Selection::InlineFragment(inline) => {
                collect(&inline.selection_set().ok_or(MALFORMED)?, fragments, seen, fields)?;
            }
        }
    }
    Ok(())
}

/// Where a request has its document.
const DOCUMENT: &str = "query";
const MALFORMED: Unreadable = Unreadable("the GraphQL document is malformed");
const MAX_DEPTH: usize = 64;
const MAX_TOKENS: usize = 20_000;
const MAX_ROOTS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, Unreadable> {
        let mut roots = Vec::new();
        read_document(text, &mut roots)?;
        Ok(roots.into_iter().map(|root| format!("{}.{}", root.operation, root.field)).collect())
    }

    #[test]
    fn finds_root_fields_by_name() {
        let table: [(&str, &[&str]); 6] = [
            ("{ me { name } }", &["query.me"]),
            (
                "mutation { a: deleteRepo(id: \"{ me }\") { id } b: addStar }",
                &["mutation.addStar", "mutation.deleteRepo"],
            ),
            ("query A { me } mutation B { drop }", &["query.me", "mutation.drop"]),
            ("mutation { ...F } fragment F on M { ... on M { drop } ...F }", &["mutation.drop"]),
            ("subscription { tick } # mutation { drop }", &["subscription.tick"]),
            ("query Q($x: Int = 1) @d { f(x: $x) @skip(if: true) { mutation } }", &["query.f"]),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let deep = format!("{}a{}", "{ a ".repeat(100), "}".repeat(100));
        let wide = format!("{{ {} }}", "a ".repeat(30_000));
        let list = format!("{{ a(x: {}1{}) }}", "[".repeat(5_000), "]".repeat(5_000));
        for text in [
            "",
            "{",
            "mutation",
            "{ ...F }",
            "{ a } type T { a: Int }",
            "fragment F on M { a }",
            "{ ...F } fragment F on M { a } fragment F on M { b }",
            &deep,
            &wide,
            &list,
        ] {
            assert!(read(text).is_err(), "{text:.40}");
        }
    }
}
