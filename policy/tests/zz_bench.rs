#![allow(clippy::all, clippy::unwrap_used, missing_docs)]
use std::collections::BTreeSet; use std::time::Instant; use policy::*;
#[test]
fn bench() {
    let src = |n: &str, t: &str| Source { name: n.into(), text: t.into() };
    let body = serde_json::json!({"personalizations": [{"to": [{"email": "a@example.com", "name": "Ada"}]}], "from": {"email": "b@example.com"}, "subject": "Your order was shipped",
      "content": [{"type": "text/html", "value": "<p>The order was shipped yesterday and should arrive by Monday, 10:30. Please check your account settings; shipping is free of charge.</p><br/><a href=\"https://example.com/u/Q4en9h1zy4WYO0nxheMOHJtO\">unsubscribe</a>".repeat(3)}]}).to_string();
    println!("body {} bytes", body.len());
    let terms = "block_if_terms: [refund guaranteed, wire transfer, lawsuit, guarantee, confidential, bankruptcy, act now, risk free, gift card, free money]\n";
    let dlp = "dlp: {rules: [aws-key, card, github-token, iban, jwt, openai-key, phone, private-key, slack-token, stripe-key, us-ssn], action: block}\n";
    for (name, p) in [("none", "require_approval: never\n".to_owned()), ("field_checks", "field_checks: [{path: subject, required: true, max_length: 100}]\n".into()), ("template", "require_approval_if_template_error: true\n".into()), ("terms", terms.into()), ("one term", "block_if_terms: [lawsuit]\n".into()), ("dlp", dlp.into()), ("dlp one", "dlp: {rules: [card], action: block}\n".into()), ("dlp email", "dlp: {rules: [email], action: observe}\n".into()), ("dlp iban", "dlp: {rules: [iban], action: observe}\n".into()), ("dlp phone", "dlp: {rules: [phone], action: observe}\n".into()), ("both", format!("{terms}{dlp}"))] {
        let rules = Rules::load(&src("d", "destinations: [{key: any, match: {host: api.example.com, path: /**}, effect: read, policy: w}]"), &[("w".into(), src("w", &p))], &BTreeSet::new(), None).unwrap();
        let facts = Facts { agent: "a".into(), method: "POST".into(), authority: Authority::parse(Scheme::Https, "api.example.com").unwrap(), path: "/v1/send".into(), query: None, headers: vec![("content-type".into(), "application/json".into()), ("accept".into(), "*/*".into()), ("user-agent".into(), "python-requests/2.31".into())], body: Body::new(body.clone().into()), votes: vec![] };
        for _ in 0..200 { rules.decide(&facts, jiff::Timestamp::UNIX_EPOCH); }
        let t = Instant::now(); for _ in 0..2000 { rules.decide(&facts, jiff::Timestamp::UNIX_EPOCH); }
        println!("{name}: {:?}", t.elapsed() / 2000);
    }
}
