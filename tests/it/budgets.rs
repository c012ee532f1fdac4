//! What a run may spend: it is stopped as soon as what is told of it passes a budget, over all attempts, and nothing lands.

use std::time::{Duration, Instant};

use crate::project::Project;

/// A call as pi tells of it: 1290 tokens.
const CALL: &str = r#"{"type":"message_end","message":{"role":"assistant","content":[{}],"model":"m","stopReason":"toolUse","usage":{"input":234,"output":56,"cacheRead":1000,"cacheWrite":0}}}"#;

/// An agent that makes a call, writes something, and makes calls until it is stopped.
const SPENDS: &str = "echo x > $AGENTGUARD_STAGING/f; while :; do cat call; sleep 0.05; done";

fn project() -> Project {
    let project = Project::new();
    project.write("call", format!("{CALL}\n"));
    project
}

#[test]
fn an_agent_is_stopped_when_it_has_used_its_tokens() {
    let project = project();
    let begun = Instant::now();
    project.run(&["--max-tokens", "5k", "--out", "o"], SPENDS).exits(123).says("of --max-tokens 5000");
    assert!(begun.elapsed() < Duration::from_secs(30), "it would have gone on for ever");
    assert!(!project.join("o").exists());
    let record = project.last();
    let error = record.error.clone().expect("a failure");
    assert_eq!((error.kind.to_string().as_str(), record.guard_exit_code), ("budget_tokens", Some(123)));
    assert_eq!(record.error_class.map(|class| class.to_string()).as_deref(), Some("partial_write"));
    let tokens = record.tokens_used.expect("known");
    // Within one call of the limit, and what was on its way when it was stopped.
    assert!(tokens > 5000 && tokens.is_multiple_of(1290) && tokens < 5000 + 20 * 1290, "{tokens}");
    assert!(error.message.contains(&tokens.to_string()), "{error:?}");
}

#[test]
fn calls_and_dollars_are_budgets_too() {
    let project = project();
    project.run(&["--max-calls", "3", "--out", "o"], SPENDS).exits(123).says("of --max-calls 3");
    assert_eq!(project.last().error.expect("a failure").kind.to_string(), "budget_calls");
    project.write("agentguard.toml", "[prices.m]\ninput = 1000.0\noutput = 1000.0\ncached = 0.0\n");
    // 290 tokens at a tenth of a cent.
    project.run(&["--max-cost-usd", "1", "--out", "o"], SPENDS).exits(123).says("of $1.0000");
    let record = project.last();
    assert_eq!(record.error.expect("a failure").kind.to_string(), "budget_cost");
    assert_eq!(record.cost_source.as_deref(), Some("priced:configured"));
    assert!(record.cost_usd.expect("priced") > 1.0);
}

#[test]
fn the_usage_file_counts_while_the_agent_runs() {
    let project = Project::new();
    let script = "echo '{\"input_tokens\": 700}' >> $AGENTGUARD_USAGE; sleep 1000";
    project.run(&["--max-tokens", "600", "--out", "o"], script).exits(123).says("700 tokens were used");
}

#[test]
fn what_is_told_only_at_the_end_counts_all_the_same() {
    let project = Project::new();
    let script = "echo x > $AGENTGUARD_STAGING/f; echo '{\"input_tokens\": 700}' >> $AGENTGUARD_USAGE";
    project.run(&["--max-tokens", "699", "--out", "o"], script).exits(123);
    assert!(!project.join("o").exists());
    project.run(&["--max-tokens", "700", "--out", "o"], script).exits(0);
    assert!(project.join("o").exists());
}

#[test]
fn what_cannot_be_priced_or_counted_does_not_lift_a_budget() {
    let project = Project::new();
    let lines = |lines: &str| {
        project.write("lines", lines);
        "cat lines >> $AGENTGUARD_USAGE"
    };
    let script =
        lines("{\"input_tokens\":1000000,\"model\":\"nobody\"}\n{\"input_tokens\":1000000,\"model\":\"gpt-4o\"}\n");
    project.run(&["--max-cost-usd", "0.01", "--out", "o"], script).exits(123).says("no price of nobody");
    assert_eq!(project.last().cost_usd, None, "unknown is null");
    // The cost of one call is not that of all.
    let script = lines(
        "{\"input_tokens\":1000000,\"model\":\"gpt-4o\"}\n{\"input_tokens\":10,\"cost_usd\":0.01,\"model\":\"gpt-4o\"}\n",
    );
    project.run(&["--out", "o"], script).exits(0);
    assert_eq!(project.last().cost_usd, Some(2.500_025));
    let most = u64::MAX;
    let script = lines(&format!("{{\"input_tokens\":{most},\"output_tokens\":5}}\n"));
    project.run(&["--max-tokens", "10", "--out", "o"], script).exits(123);
}

#[test]
fn a_budget_is_over_all_attempts() {
    let project = project();
    let script = "cat call; exit 1";
    let options = ["--retries", "5", "--backoff", "1ms", "--max-tokens", "3000", "--out", "o"];
    project.run(&options, script).exits(123).says("3870 tokens were used");
    let record = project.last();
    assert_eq!((record.attempts.len(), record.tokens_used), (3, Some(3870)), "no fourth attempt");
}

#[test]
fn a_day_has_a_budget_for_each_agent() {
    let project = Project::new();
    project.write("agentguard.toml", "[budget]\ndaily_usd = 1.0\n[agents.rich]\ndaily_usd = 50\n");
    let spend = "echo '{\"cost_usd\": 0.6}' >> $AGENTGUARD_USAGE";
    project.run(&["--agent", "a", "--out", "o"], spend).exits(0);
    // What is left is 0.4.
    project.run(&["--agent", "a", "--out", "o"], spend).exits(123).says("of $0.4000 that may be");
    project.run(&["--agent", "a", "--out", "o"], "touch ran").exits(123).says("have cost what they may in a day");
    assert!(!project.join("ran").exists(), "it was not started");
    project.run(&["--agent", "b", "--out", "o"], spend).exits(0);
    for _ in 0..3 {
        project.run(&["--agent", "rich", "--out", "o"], spend).exits(0);
    }
    project.write("agentguard.toml", "[budget]\ndaily_usd = -1\n");
    project.run(&["--out", "o"], "true").exits(125).says("`daily_usd` is an amount of US dollars above zero");
    project.write("agentguard.toml", "[budget]\ndayly_usd = 1\n");
    project.run(&["--out", "o"], "true").exits(125).says("did you mean `daily_usd`?");
}

#[test]
fn an_api_that_asks_for_time_is_given_it_and_a_refused_key_is_not_tried_again() {
    let project = Project::new();
    project.write("said", "Error: Error code: 429 - please try again in 700ms\n");
    let script = "test $AGENTGUARD_ATTEMPT = 2 || { cat said >&2; exit 1; }";
    project.run(&["--retries", "1", "--backoff", "1ms", "--out", "o"], script).exits(0);
    let attempts = project.last().attempts;
    let waited = attempts[1].start.unix_micros() - attempts[0].end.unix_micros();
    assert!(waited >= 700_000, "{waited}");
    assert_eq!(attempts[0].error.as_ref().map(|error| error.kind.to_string()).as_deref(), Some("api_rate_limit"));
    project.write("said", "Error: Error code: 401 - wrong key\n");
    project.run(&["--retries", "3", "--backoff", "1ms", "--out", "o"], "cat said >&2; exit 1").exits(1);
    assert_eq!(project.last().attempts.len(), 1);
}

#[test]
fn budgets_that_mean_nothing_are_refused() {
    let project = Project::new();
    for (options, words) in [
        (&["--max-tokens", "0"][..], "is no number of at least 1"),
        (&["--max-tokens=-5"], "is no number of at least 1"),
        (&["--max-calls", "many"], "is no number of at least 1"),
        (&["--max-cost-usd", "nan"], "is no amount of US dollars above zero"),
        (&["--usage", "cluade"], "did you mean `claude`?"),
        (&["--usage", "off", "--max-tokens", "5"], "would never be passed"),
    ] {
        project.run(options, "touch ran").exits(125).says(words);
    }
    assert!(!project.join("ran").exists() && project.records().is_empty());
}

#[test]
fn prices_are_listed_imported_and_forgotten() {
    let project = Project::new();
    project.ag(&["prices", "list", "gpt-5"]).exits(0);
    project.ag(&["prices", "list", "gpt-55555"]).exits(125).says("no price of");
    project.write("table.json", "{\"my-model\": {\"input_cost_per_token\": 2e-6, \"output_cost_per_token\": 4e-6}}");
    project.ag(&["prices", "import", "table.json"]).exits(0);
    let script = "echo '{\"input_tokens\": 1000000, \"output_tokens\": 1000000, \"model\": \"x/my-model\"}' >> $AGENTGUARD_USAGE";
    project.run(&["--out", "o"], script).exits(0);
    let record = project.last();
    assert_eq!(record.cost_usd, Some(6.0));
    assert!(record.cost_source.expect("a source").starts_with("priced:20"));
    project.write("broken.json", "{\"a\": 1}");
    project.ag(&["prices", "import", "broken.json"]).exits(125).says("no model with a price");
    project.ag(&["prices", "forget"]).exits(0);
    project.run(&["--out", "o"], script).exits(0);
    assert_eq!(project.last().cost_usd, None, "unknown is null");
}
