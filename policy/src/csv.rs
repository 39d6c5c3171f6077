//! A strict reading of CSV with a header (RFC 4180).
//!
//! Parsers disagree about quotes inside a field, bare carriage returns, blank lines and records of another width; a text
//! that has any of them is not read at all.

use crate::form;
use crate::json::Unreadable;

/// The names of the columns and the records under them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    header: Vec<String>,
    records: Vec<Vec<String>>,
}

struct Reader<'a> {
    rest: &'a str,
}

/// What ends a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Field,
    Record,
    Text,
}

// === impl Table ===

impl Table {
    /// Reads a whole text.
    pub(crate) fn read(text: &str) -> Result<Self, Unreadable> {
        let mut reader = Reader { rest: text };
        let header = reader.record()?;
        let mut records = Vec::new();
        let mut cells = header.len();
        while !reader.rest.is_empty() {
            let record = reader.record()?;
            if record.len() != header.len() {
                return Err(Unreadable("the CSV has records of different widths"));
            }
            cells = cells.saturating_add(record.len());
            if cells > MAX_CELLS {
                return Err(Unreadable("the CSV has too many cells"));
            }
            records.push(record);
        }
        Ok(Self { header, records })
    }

    /// How many records there are under the header. A lone record may be the header or be counted as one.
    pub(crate) fn rows(&self) -> Result<usize, Unreadable> {
        let named = self.header.iter().all(|name| !name.trim().is_empty());
        match self.records.len() {
            0 => Err(Unreadable("the CSV has one record, which may be the header or not")),
            _ if !named => Err(Unreadable("the CSV has a column without a name")),
            rows => Ok(rows),
        }
    }

    /// All values under a name, of which no other column has a spelling.
    pub(crate) fn column(&self, name: &str) -> Result<Vec<String>, Unreadable> {
        let names: Vec<form::Field> = self.header.iter().map(|name| (name.clone(), Some(String::new()))).collect();
        form::only(&names, name, &[])?;
        let at = self.header.iter().position(|given| given == name).unwrap_or(usize::MAX);
        Ok(self.records.iter().filter_map(|record| record.get(at).cloned()).collect())
    }
}

// === impl Reader ===

impl Reader<'_> {
    fn record(&mut self) -> Result<Vec<String>, Unreadable> {
        let mut fields = Vec::new();
        loop {
            let (field, end) = if self.take("\"") { self.quoted()? } else { self.plain()? };
            fields.push(field);
            if end != End::Field {
                break;
            }
        }
        let blank = fields.len() == 1 && fields.iter().all(String::is_empty);
        if blank { Err(Unreadable("the CSV has a blank line")) } else { Ok(fields) }
    }

    fn plain(&mut self) -> Result<(String, End), Unreadable> {
        let length = self.rest.find([',', '\n', '\r', '"']).unwrap_or(self.rest.len());
        let field = self.skip(length);
        Ok((field, self.end()?))
    }

    fn quoted(&mut self) -> Result<(String, End), Unreadable> {
        let mut field = String::new();
        loop {
            let length = self.rest.find('"').ok_or(Unreadable("the CSV has a quote that is not closed"))?;
            field.push_str(&self.skip(length));
            self.take("\"");
            if !self.take("\"") {
                return Ok((field, self.end()?));
            }
            field.push('"');
        }
    }

    fn end(&mut self) -> Result<End, Unreadable> {
        if self.take(",") {
            Ok(End::Field)
        } else if self.take("\r\n") || self.take("\n") {
            Ok(End::Record)
        } else if self.rest.is_empty() {
            Ok(End::Text)
        } else {
            Err(Unreadable("the CSV has a quote or a carriage return where parsers differ"))
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn skip(&mut self, length: usize) -> String {
        let (before, after) = self.rest.split_at_checked(length).unwrap_or((self.rest, ""));
        self.rest = after;
        before.to_owned()
    }
}

const MAX_CELLS: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_table() {
        let table = Table::read("id,\"na\"\"me\"\r\n1,\"a,\nb\"\r\n2,\r\n").unwrap();
        assert_eq!(table.rows(), Ok(2));
        assert_eq!(table.column("na\"me").unwrap(), ["a,\nb", ""]);
        assert_eq!(table.column("name"), Err(Unreadable("the value is missing")));
        assert!(Table::read("id,Id\n1,2").unwrap().column("id").is_err());
        assert!(Table::read("id,id\n1,2").unwrap().column("id").is_err());
        assert!(Table::read("id,\n1,2").unwrap().rows().is_err());
        assert!(Table::read("id,name").unwrap().rows().is_err());
    }

    #[test]
    fn refuses_what_parsers_disagree_on() {
        for text in ["", "\n", "a\n\nb", "a\rb", "a\n\"b", "a\n\"b\"c", "a\nb\"c", "a,b\n1", "a\n1,2", "a\n\"b\"\r"] {
            assert!(Table::read(text).is_err(), "{text:?}");
        }
    }
}
