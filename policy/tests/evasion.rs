//! Blocked terms in disguise, which must never pass, and harmless bodies, which nearly always must.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test fail by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use policy::{Authority, Body, Facts, Rules, Scheme, Source, Verdict};

const DESTINATIONS: &str = "
destinations:
  - {key: any, match: {host: api.example.com, path: /**}, effect: read, policy: words}
";

const TERMS: [&str; 25] = [
    "refund guaranteed",
    "wire transfer",
    "lawsuit",
    "guarantee",
    "confidential",
    "bankruptcy",
    "act now",
    "risk free",
    "cancel my account",
    "gift card",
    "free money",
    "bitcoin",
    "ransom",
    "insider",
    "kickback",
    "bribe",
    "blackmail",
    "attorney",
    "settlement",
    "terminate",
    "layoffs",
    "merger",
    "no questions asked",
    "double your money",
    "unsubscribe all",
];

fn rules(terms: &[&str], rest: &str) -> Rules {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let policy = format!("block_if_terms: {terms:?}\n{rest}");
    let policies = [("words".to_owned(), source("words.yaml", &policy))];
    Rules::load(&source("destinations.yaml", DESTINATIONS), &policies, Some(&BTreeSet::new()), None).unwrap()
}

fn verdict(rules: &Rules, kind: &str, body: String) -> (Verdict, String) {
    let facts = Facts {
        agent: "a".to_owned(),
        method: "POST".to_owned(),
        authority: Authority::parse(Scheme::Https, "api.example.com").unwrap(),
        path: "/v1/send".to_owned(),
        query: None,
        headers: vec![("content-type".to_owned(), kind.to_owned())],
        body: Body::new(body.into()),
        votes: Vec::new(),
        unanswered: false,
        lost: Vec::new(),
    };
    let decision = rules.decide(&facts, jiff::Timestamp::UNIX_EPOCH);
    (decision.verdict(), decision.basis().rules.first().unwrap().reason.clone())
}

type Transform = (&'static str, fn(&str) -> String);

/// Every character by a rule of its own.
fn each(text: &str, spell: impl Fn(char) -> String) -> String {
    text.chars().map(spell).collect()
}

/// Something after every letter but the last of a word.
fn between(text: &str, separator: &str) -> String {
    let words = text.split(' ').map(|word| {
        let letters: Vec<String> = word.chars().map(|c| c.to_string()).collect();
        letters.join(separator)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Letters moved into another alphabet; what it lacks stays.
fn swap(text: &str, pairs: &str) -> String {
    let pairs: Vec<char> = pairs.chars().filter(|c| *c != ' ').collect();
    let swapped = |c: char| pairs.chunks(2).find(|pair| pair[0] == c).map_or(c, |pair| pair[1]);
    text.chars().map(swapped).collect()
}

/// Letters moved to a block of code points that begins with `a` at `first`.
fn shift(text: &str, first: u32) -> String {
    let moved = |c: char| char::from_u32(first + u32::from(c) - u32::from('a')).unwrap();
    text.chars().map(|c| if c.is_ascii_lowercase() { moved(c) } else { c }).collect()
}

const TRANSFORMS: [Transform; 60] = [
    ("as it is", str::to_owned),
    ("upper case", str::to_uppercase),
    ("mixed case", |t| {
        t.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect()
    }),
    ("zero-width space", |t| between(t, "\u{200b}")),
    ("zero-width non-joiner", |t| between(t, "\u{200c}")),
    ("zero-width joiner", |t| between(t, "\u{200d}")),
    ("word joiner", |t| between(t, "\u{2060}")),
    ("byte order mark", |t| between(t, "\u{feff}")),
    ("soft hyphen", |t| between(t, "\u{ad}")),
    ("combining grapheme joiner", |t| between(t, "\u{34f}")),
    ("right-to-left override", |t| between(t, "\u{202e}")),
    ("isolates", |t| between(t, "\u{2068}")),
    ("Mongolian vowel separator", |t| between(t, "\u{180e}")),
    ("Hangul filler", |t| between(t, "\u{3164}")),
    ("combining accents", |t| each(t, |c| format!("{c}\u{301}\u{323}"))),
    ("enclosing marks", |t| each(t, |c| format!("{c}\u{20dd}"))),
    ("variation selectors", |t| between(t, "\u{fe0f}")),
    ("tag characters", |t| between(t, "\u{e0041}")),
    ("full width", |t| shift(t, 0xFF41)),
    ("mathematical bold", |t| shift(t, 0x1D41A)),
    ("mathematical sans-serif", |t| shift(t, 0x1D5BA)),
    ("monospace", |t| shift(t, 0x1D68A)),
    ("circled", |t| shift(t, 0x24D0)),
    ("parenthesised", |t| shift(t, 0x249C)),
    ("squared", |t| shift(t, 0x1F130)),
    ("negative circled", |t| shift(t, 0x1F150)),
    ("negative squared", |t| shift(t, 0x1F170)),
    ("Cyrillic", |t| swap(t, "aа cс eе iі oо pр sѕ xх yу kк nп mм")),
    ("Greek", |t| swap(t, "aα eε iι kκ oο pρ tτ uυ yγ nη")),
    ("Cherokee", |t| swap(&t.to_uppercase(), "AᎪ EᎬ TᎢ RᎡ SᏚ LᏞ")),
    ("small capitals", |t| swap(t, "aᴀ bʙ cᴄ dᴅ eᴇ fꜰ gɢ hʜ iɪ jᴊ kᴋ lʟ mᴍ nɴ oᴏ pᴘ rʀ sꜱ tᴛ uᴜ vᴠ wᴡ yʏ zᴢ")),
    ("precomposed accents", |t| swap(t, "aä eé iï oö uü cç nñ sš yý")),
    ("digits for letters", |t| swap(t, "a4 e3 i1 o0 s5 t7")),
    ("more digits", |t| swap(t, "b8 g9 l1 z2 o0")),
    ("signs for letters", |t| swap(t, "a@ s$ e€ i!")),
    ("more signs", |t| swap(t, "l| t+ c(")),
    ("dots", |t| between(t, ".")),
    ("hyphens", |t| between(t, "-")),
    ("spaces", |t| between(t, " ")),
    ("underscores", |t| between(t, "_")),
    ("asterisks", |t| between(t, "**")),
    ("line feeds", |t| between(t, "\n")),
    ("wide spaces", |t| between(t, "\u{3000}")),
    ("torn once", |t| {
        t.chars().enumerate().map(|(at, c)| if at == 2 { format!("{c} ") } else { c.to_string() }).collect()
    }),
    ("letters three times", |t| each(t, |c| if c == ' ' { " ".to_owned() } else { c.to_string().repeat(3) })),
    ("markup", |t| between(t, "<b></b>")),
    ("comments", |t| between(t, "<!-- -->")),
    ("percent escapes", |t| each(t, |c| format!("%{:02x}", u32::from(c)))),
    ("double percent escapes", |t| each(t, |c| format!("%25{:02X}", u32::from(c)))),
    ("character references", |t| each(t, |c| format!("&#{};", u32::from(c)))),
    ("backslash escapes", |t| each(t, |c| format!("\\u{:04x}", u32::from(c)))),
    ("quoted-printable", |t| each(t, |c| format!("={:02X}", u32::from(c)))),
    ("base64", |t| BASE64.encode(t.as_bytes())),
    ("base64 twice", |t| BASE64.encode(BASE64URL_NOPAD.encode(t.as_bytes()).as_bytes())),
    ("base64 behind percent escapes", |t| each(&BASE64.encode(t.as_bytes()), |c| format!("%{:02X}", u32::from(c)))),
    ("percent escapes in base64", |t| BASE64.encode(each(t, |c| format!("%{:02X}", u32::from(c))).as_bytes())),
    ("full width in base64", |t| BASE64.encode(shift(t, 0xFF41).as_bytes())),
    ("Cyrillic behind percent escapes", |t| {
        swap(t, "aа cс eе iі oо pр").bytes().fold(String::new(), |all, byte| format!("{all}%{byte:02X}"))
    }),
    ("hex", |t| HEXLOWER.encode(t.as_bytes())),
    ("hex in groups", |t| each(t, |c| format!("{:02X} ", u32::from(c)))),
];

/// What a part of a multipart body begins with, before its name.
const PART: &str = "--b\r\nContent-Disposition: form-data; name=";

/// The same text as a body of each type.
fn bodies(text: &str) -> [(&'static str, String); 6] {
    let escaped = text.bytes().fold(String::new(), |mut all, byte| {
        write!(all, "%{byte:02X}").unwrap();
        all
    });
    let markup = text.replace('&', "&amp;").replace('<', "&lt;");
    [
        ("application/json", serde_json::json!({"id": 1, "message": {"text": text}}).to_string()),
        ("application/x-www-form-urlencoded", format!("id=1&text={escaped}")),
        (
            "multipart/form-data; boundary=b",
            format!("{PART}\"id\"\r\n\r\n1\r\n{PART}\"text\"\r\n\r\n{text}\r\n--b--\r\n"),
        ),
        ("text/plain; charset=utf-8", format!("Hello,\n{text}\nBye")),
        ("text/csv", format!("id,text\n1,\"{text}\"\n")),
        ("application/xml", format!("<m><id>1</id><text>{markup}</text></m>")),
    ]
}

#[test]
fn no_disguise_passes() {
    let rules = rules(&TERMS, "");
    let mut passed = Vec::new();
    for (name, transform) in TRANSFORMS {
        for term in TERMS {
            let bodies = bodies(&transform(term)).into_iter();
            let passing = bodies.filter(|(kind, body)| verdict(&rules, kind, body.clone()).0 == Verdict::Allow);
            passed.extend(passing.map(|(kind, _)| format!("{name}: {term}: {kind}")));
        }
    }
    let shown: Vec<&String> = passed.iter().take(40).collect();
    assert!(passed.is_empty(), "{} passed: {shown:#?}", passed.len());
}

#[test]
fn a_term_torn_between_fields_does_not_pass() {
    let rules = rules(&TERMS, "");
    for (one, two) in [("refund", "guaranteed"), ("law", "suit"), ("bit", "coin"), ("act n", "ow")] {
        let bodies = [
            ("application/json", serde_json::json!({"a": one, "b": {"c": [two]}}).to_string()),
            ("application/x-www-form-urlencoded", format!("a={}&b={two}", one.replace(' ', "+"))),
            (
                "multipart/form-data; boundary=b",
                format!("{PART}\"a\"\r\n\r\n{one}\r\n{PART}\"b\"\r\n\r\n{two}\r\n--b--\r\n"),
            ),
            ("text/csv", format!("a,b\n{one},{two}\n")),
        ];
        for (kind, body) in bodies {
            assert_eq!(verdict(&rules, kind, body).0, Verdict::Deny, "{one} {two} {kind}");
        }
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.roll(list.len())]
    }

    /// An identifier as APIs make them.
    fn id(&mut self, prefix: &str, length: usize) -> String {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let letters: String = (0..length).map(|_| char::from(alphabet[self.roll(alphabet.len())])).collect();
        format!("{prefix}{letters}")
    }

    fn number(&mut self, digits: usize) -> String {
        (0..digits)
            .map(|at| char::from(b'0' + u8::try_from(if at == 0 { 1 + self.roll(9) } else { self.roll(10) }).unwrap()))
            .collect()
    }

    fn sentence(&mut self) -> String {
        let phrases: Vec<&str> = (0..1 + self.roll(4)).map(|_| self.pick(&PHRASES)).collect();
        phrases.join(self.pick(&[" ", "\n\n", " — "]))
    }

    fn email(&mut self) -> String {
        format!(
            "{}.{}@{}",
            self.pick(&NAMES).to_lowercase(),
            self.number(2),
            self.pick(&["example.com", "acme.io", "mail.example.org"])
        )
    }
}

const NAMES: [&str; 10] = ["Ada", "Grace", "Jürgen", "Zoë", "Mei", "Łukasz", "Søren", "Nadia", "Émile", "Иван"];
/// Sentences as people write them; many have words that are close to a blocked term.
const PHRASES: [&str; 24] = [
    "The order was shipped yesterday and should arrive by Monday, 10:30.",
    "Please check your account settings; shipping is free of charge.",
    "We merged a fix for issue #4711 in v2.1.0 (commit deadbeef).",
    "The customer asked about the transfer of money back to the old account.",
    "Insight: 50% of users act on it within 24 hours, for $4.99 a month.",
    "A risk assessment is due; there fundamentals matter more than the price.",
    "Terminal output was settled, determined and attached as log.txt.",
    "Are there any questions? If not, I will double check your request.",
    "The café in Zürich is naïve about its größer prices — see https://example.com/a/b?c=d&e=f.",
    "价格已经更新，请确认。",
    "Заказ отправлен, спасибо за покупку!",
    "Subscribe to all updates, or mute the thread.",
    "Ransomware training is on Tuesday, bring a laptop & charger.",
    "The guard and the attendee lists are ready: 12 guests, 3 tables.",
    "Bit by bit the coins fell out of the machine :)",
    "Our law firm wears suits, i.e. formal dress is required.",
    "Kick off the backlog grooming at 9am; the emergency contact is Ann.",
    "I can sell my old phone, my account manager agreed.",
    "Wire the sensor to pin 4, then transfers start automatically.",
    "if (a < b && c[0] != d) { return x->y; } // see RFC 9110",
    "| id | name | qty |\n|----|------|-----|\n| 17 | nuts | 250 |",
    "cards were dealt; a gift for everyone was under the tree",
    "Free up disk space: money.db takes 3.5 GB, cache 1.2 GB.",
    "Acting now would be early; the layover in Oslo is 4h 15m.",
];

/// One body in the shape of a published API.
fn harmless(at: usize, dice: &mut Dice) -> (&'static str, String) {
    let (one, two) = (dice.sentence(), dice.sentence());
    let json = match at % 12 {
        0 => {
            let (charge, order, amount) = (dice.id("ch_3", 22), dice.number(8), dice.number(4));
            let metadata = format!(
                "metadata[order]={order}&metadata[note]={}",
                one.replace([' ', '\n'], "+").replace(['%', '&', '#'], "")
            );
            return (
                "application/x-www-form-urlencoded",
                format!("charge={charge}&amount={amount}&currency=usd&{metadata}"),
            );
        }
        1 => serde_json::json!({"title": one, "body": two, "labels": ["bug", "p2"], "assignees": [dice.pick(&NAMES)],
            "head": dice.id("", 40).to_lowercase(), "milestone": 3, "draft": false}),
        2 => {
            serde_json::json!({"channel": dice.id("C0", 9).to_uppercase(), "text": one, "thread_ts": format!("{}.{}", dice.number(10), dice.number(6)),
            "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": format!("*{two}* <https://example.com|link> :wave:")}}]})
        }
        3 => serde_json::json!({"personalizations": [{"to": [{"email": dice.email(), "name": dice.pick(&NAMES)}]}],
            "from": {"email": dice.email()}, "subject": one, "content": [{"type": "text/html", "value": format!("<p>{two}</p><br/><a href=\"https://example.com/u/{}\">unsubscribe</a>", dice.id("", 24))}]}),
        4 => {
            serde_json::json!({"properties": {"email": dice.email(), "firstname": dice.pick(&NAMES), "hs_object_id": dice.number(11), "notes": one,
            "lifecyclestage": "lead", "createdate": format!("2026-01-{}T09:00:00.000Z", 10 + dice.roll(19))}})
        }
        5 => {
            serde_json::json!({"allOrNone": false, "records": (0..1 + dice.roll(5)).map(|_| serde_json::json!({"attributes": {"type": "Contact"},
            "Id": dice.id("003", 15), "LastName": dice.pick(&NAMES), "Description": dice.sentence(), "AnnualRevenue": 125_000.5})).collect::<Vec<_>>()})
        }
        6 => serde_json::json!({"model": "gpt-5", "temperature": 0.7, "messages": [{"role": "system", "content": one},
            {"role": "user", "content": format!("{two}\n```rust\nlet x = a[0] != b && c < d; // {}\n```", dice.id("", 12))}], "tools": [{"type": "function",
            "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]}),
        7 => serde_json::json!({"jsonrpc": "2.0", "id": at, "method": "tools/call", "params": {"name": "create_issue",
            "arguments": {"owner": "acme", "repo": dice.id("", 8), "title": one, "body": two}, "_meta": {"progressToken": dice.id("", 21)}}}),
        8 => {
            serde_json::json!({"query": "mutation($id: ID!, $body: String!) { addComment(input: {subjectId: $id, body: $body}) { commentEdge { node { id } } } }",
            "variables": {"id": dice.id("I_kwDO", 12), "body": one}})
        }
        9 => {
            serde_json::json!({"fields": {"project": {"key": "OPS"}, "issuetype": {"name": "Task"}, "summary": one, "labels": ["q3"],
            "description": {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": two}]}]}}})
        }
        10 => {
            let row = |dice: &mut Dice| {
                format!("{},{},\"{}\"\n", dice.id("", 6), dice.email(), dice.sentence().replace('"', "\"\""))
            };
            let rows: String = (0..3).map(|_| row(dice)).collect();
            return ("text/csv", format!("id,email,notes\n{rows}"));
        }
        _ => {
            serde_json::json!({"model": "claude-sonnet-5", "max_tokens": 1024, "messages": [{"role": "user", "content": [{"type": "text", "text": one},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": dice.id("iVBORw0KGgo", 400)}}]}],
            "metadata": {"user_id": dice.id("user_", 32)}})
        }
    };
    ("application/json", json.to_string())
}

#[test]
fn harmless_bodies_pass() {
    let rest = "require_approval_if_template_error: true\n\
                dlp: {rules: [aws-key, card, github-token, iban, jwt, openai-key, phone, private-key, slack-token, stripe-key, us-ssn], action: block}\n";
    let rules = rules(&TERMS, rest);
    let mut dice = Dice(7);
    let stopped: Vec<String> = (0..2_000)
        .filter_map(|at| {
            let (kind, body) = harmless(at, &mut dice);
            let (verdict, reason) = verdict(&rules, kind, body.clone());
            (verdict != Verdict::Allow).then(|| format!("{reason}: {body}"))
        })
        .collect();
    assert!(
        stopped.len() <= 20,
        "{} of 2000 are stopped: {:#?}",
        stopped.len(),
        stopped.iter().take(20).collect::<Vec<_>>()
    );
}
