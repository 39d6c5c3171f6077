//! What policies can say, seen from outside: an MCP server behind the gate, manifests of agents, and groups of reviewers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::agent::{Agent, Response};
use crate::harness::gate::{Gate, PATIENCE, Plan, within};
use crate::harness::origin::Origin;
use crate::harness::world::API;

const DESTINATIONS: &str = "destinations:
  - key: mcp.desk
    match: { host: api.example, path: /mcp }
    effect: read
    policy: desk
    credential: api
    calls:
      mcp:
        'get_*': { effect: read }
        refund: { effect: payment, policy: refunds, profile: { payment.refund.v1: { amount: 'json:/params/arguments/amount', payment: 'json:/params/arguments/of' } } }
  - key: graph
    match: { host: api.example, path: /graphql }
    effect: read
    policy: desk
    calls: { graphql: { 'query.*': { effect: read }, 'mutation.*': { effect: external_mutation } } }
  - key: api.refunds
    match: { host: api.example, methods: [POST], path: /refunds }
    effect: payment
    policy: refunds
    credential: api
    profile: { payment.refund.v1: { amount: 'json:/amount', payment: 'json:/of' } }
";

const REFUNDS: &str = "require_profile: payment.refund.v1
auto_approve_under: { amount: 50 }
require_approvals: 2
approvers: [finance]
dlp: { rules: [jwt], action: observe }
";

#[test]
fn d25_tools_of_an_mcp_server_are_told_apart_and_refusals_are_json_rpc() {
    let (origin, gate) = desk();
    let agent = gate.agent();
    let read = call(&agent, &tool(1, "get_ticket", &json!({})));
    assert_eq!((read.status, origin.hits().len()), (200, 1));
    let allowed = gate.event("decision.allowed", &read.correlation());
    assert_eq!(allowed["dest_key"], "mcp.desk.get_ticket");

    let denied = call(&agent, &tool("a-7", "drop_table", &json!({})));
    assert_eq!((denied.status, denied.header("content-type")), (403, Some("application/json")));
    assert_eq!((denied.text_at("/id"), denied.text_at("/jsonrpc")), ("a-7".to_owned(), "2.0".to_owned()));
    assert_eq!(denied.text_at("/error/data/rule"), "calls.unknown");
    assert_eq!(gate.event("decision.denied", &denied.correlation())["dest_key"], "mcp.desk.drop_table");

    let batch = json!([tool(1, "get_ticket", &json!({})), tool(2, "drop_table", &json!({}))]);
    let denied = call(&agent, &batch);
    let ids: Vec<Value> = denied.json().as_array().unwrap().iter().map(|error| error["id"].clone()).collect();
    assert_eq!((denied.status, ids), (403, vec![json!(1), json!(2)]));

    let named = [("content-type", "application/json"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "get_ticket")];
    let body = tool(3, "refund", &json!({"amount": 1, "of": "p"})).to_string();
    let denied = agent.request("POST", "https://api.example/mcp", &named, body.as_bytes());
    assert_eq!((denied.status, denied.json()["id"].clone()), (403, json!(3)));
    assert_eq!(denied.text_at("/error/data/rule"), "calls.unreadable");
    let broken = agent.request("POST", "https://api.example/mcp", &named, b"{");
    assert_eq!((broken.status, broken.json()["id"].clone()), (403, Value::Null));
    assert_eq!(origin.hits().len(), 1, "nothing that was refused has left");
}

#[test]
fn d24_mutations_are_writes_wherever_they_stand_and_what_is_unknown_waits() {
    let (origin, gate) = desk();
    let agent = gate.agent();
    let ask = |body: Value| post(&agent, "/graphql", &body).status;
    assert_eq!(ask(json!({"query": "query Q { viewer { login } }"})), 200);
    assert_eq!(ask(json!({"query": "mutation { addStar { id } }"})), 202);
    assert_eq!(ask(json!({"query": "query A { viewer } mutation B { addStar }", "operationName": "A"})), 202);
    assert_eq!(ask(json!([{"query": "{ viewer }"}, {"query": "mutation { ...F } fragment F on M { drop }"}])), 202);
    assert_eq!(ask(json!({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "00"}}})), 202);
    assert_eq!(ask(json!({"query": "subscription { tick }"})), 403, "nothing is said of subscriptions");
    assert_eq!(agent.get("https://api.example/graphql?query=mutation%7BaddStar%7D").status, 202);
    assert_eq!(agent.get("https://api.example/graphql?query=%7Bviewer%7D").status, 200);
    assert_eq!(origin.hits().len(), 2);
}

#[test]
fn a_profile_is_measured_and_summed_up_for_the_reviewer_and_only_there() {
    let (origin, gate) = desk();
    let agent = gate.agent();
    let held = call(&agent, &tool(1, "refund", &json!({"amount": 51, "of": "pay_secret_7"})));
    assert_eq!((held.status, held.header("writ-decision")), (200, Some("hold")));
    let told = held.json();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!(-32001)), "a 202 is no answer to MCP clients");
    let opened = gate.event("decision.approval_required", &held.correlation());
    assert_eq!(opened["data"]["profile"], "payment.refund.v1");
    assert_eq!(opened["data"]["measured"]["amount"], "51");
    assert_eq!(opened["data"]["risk"], json!({"score": 35, "level": "medium", "parts": {"effect": 35}}));
    assert_eq!(opened["data"]["dlp_hash"].as_str().map(str::len), Some(64), "which data was looked for");
    assert!(!opened.to_string().contains("pay_secret_7"), "a parameter's value is on the ledger");
    let shown = gate.succeeds(&["intents", "show", &held.text_at("/error/data/intentId")]);
    assert!(!shown.contains("pay_secret_7"));
    let card = format!("approvals/{}", held.text_at("/error/data/intentId"));
    let summary = "<p class=\"summary\">refund 51 of payment pay_secret_7</p>";
    let viewer = gate.add_operator("vic", "viewer");
    assert!(gate.page(&gate.admin(), &card).contains(summary));
    assert!(!gate.page(&viewer, &card).contains("pay_secret_7"), "it repeats the body, which viewers do not see");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn only_members_of_the_named_groups_approve() {
    let (origin, gate) = desk();
    let agent = gate.agent();
    let intent = post(&agent, "/refunds", &json!({"amount": 99, "of": "p"})).text_at("/intentId");
    let operator = |name: &str, group: &[&str]| {
        let arguments = [&["--json", "operators", "add", name, "--role", "reviewer"], group].concat();
        let added: Value = serde_json::from_str(&gate.succeeds(&arguments)).unwrap();
        added["token"].as_str().unwrap().to_owned()
    };
    let vote = |token: &str| gate.writ_as(token, &["approve", &intent, "--rationale", "right"]);
    let finance = ["--group", "finance"];
    let (ann, bob, eve) =
        (operator("ann", &finance), operator("bob", &finance), operator("eve", &["--group", "support"]));
    for token in [&ann, &eve] {
        vote(token);
        assert_eq!((agent.status(&intent).as_str(), origin.connections()), ("pending_approval", 0));
    }
    vote(&bob);
    assert_eq!((agent.settled(&intent).as_str(), origin.hits().len()), ("succeeded", 1));
}

#[test]
fn a_manifest_bounds_its_agent_as_soon_as_it_is_written() {
    let (origin, gate) = desk();
    let (agent, other) = (gate.add_agent("desk", "care"), gate.add_agent("other", "care"));
    let ask = |agent: &Agent| post(agent, "/refunds", &json!({"amount": 1, "of": "p"}));
    assert_eq!((ask(&agent).status, origin.hits().len()), (200, 1));
    std::fs::create_dir(gate.home().join("agents")).unwrap();
    gate.write("agents/desk.yaml", "name: desk\nowner: care\nallowed_destinations: ['mcp.*']\n");
    let denied = within(PATIENCE, || Some(ask(&agent)).filter(|answer| answer.status == 403)).unwrap();
    assert_eq!(denied.text_at("/rule"), "manifest/allowed_destinations");
    let recorded = gate.event("decision.denied", &denied.correlation());
    assert_eq!(recorded["data"]["manifest_hash"].as_str().unwrap().len(), 64);
    assert_eq!(ask(&other).status, 200);

    // A broken manifest leaves the one in force.
    gate.write("agents/desk.yaml", "name: desk\nallowed_destination: ['*']\n");
    gate.wait_for("config.refused", |event| event["data"]["reason"].as_str().unwrap().contains("desk.yaml:2"));
    assert_eq!(ask(&agent).status, 403);
}

/// The shortest expiry a policy can set is a minute; this test waits it out beside the others.
#[test]
fn what_nobody_answers_is_sent_when_that_is_said_and_its_risk_is_low() {
    let origin = Origin::https(&[API]);
    let policy = |rest: &str| format!("require_approval: always\nexpiry_minutes: 1\non_no_response: {rest}\n");
    let plan = Plan::new().origin(API, &origin);
    let plan = plan.file("policies/sends.yaml", &policy("approve_if_low_risk"));
    let gate = plan.file("policies/changes.yaml", &policy("defer")).start();
    let agent = gate.agent();
    let low = agent.held("https://api.example/send/1", "x");
    let deferred = agent.held("https://api.example/change/1", "x");
    let first = gate.event("decision.approval_required", &deferred);
    assert_eq!(first["data"]["on_no_response"], "defer");
    let again = |event: &Value| event["intent_id"] == deferred.as_str() && event["data"]["deferred"] == true;
    assert!(
        within(Duration::from_secs(90), || (agent.status(&low) == "succeeded").then_some(())).is_some(),
        "{}",
        gate.log()
    );
    let second = gate.wait_for("decision.approval_required", again);
    assert!(second["data"]["expires_at"].as_str() > first["data"]["expires_at"].as_str());
    assert_eq!((agent.status(&deferred).as_str(), origin.hits().len()), ("pending_approval", 1));
    let sent = gate.event("action.executing", &low);
    assert!(sent["data"]["rules"].to_string().contains("approval.unanswered"));
}

fn desk() -> (Origin, Gate) {
    let origin = Origin::https(&[API]);
    let plan = Plan::new().origin(API, &origin).file("destinations.yaml", DESTINATIONS);
    let plan = plan.file("policies/desk.yaml", "description: tools\n").file("policies/refunds.yaml", REFUNDS);
    let plan = ["changes", "pairs", "reads", "sends"]
        .iter()
        .fold(plan, |plan, unused| plan.without(&format!("policies/{unused}.yaml")));
    (origin, plan.start())
}

fn tool(id: impl Into<Value>, name: &str, arguments: &Value) -> Value {
    let params = json!({"name": name, "arguments": arguments});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params})
}

fn call(agent: &Agent, message: &Value) -> Response {
    post(agent, "/mcp", message)
}

fn post(agent: &Agent, path: &str, body: &Value) -> Response {
    let headers = [("content-type", "application/json")];
    agent.request("POST", &format!("https://{API}{path}"), &headers, body.to_string().as_bytes())
}
