//! What agents say that they used, and how they say that they failed: each format in its own words, against what the model
//! server counted (two calls: input 2468 of which 2000 from the cache, output 112 of which 14 reasoning).

use agentguard::model::UsageFormat;
use agentguard::usage::reader::{Reader, Reading};
use proptest::prelude::*;

use crate::project::{Outcome, Project};

/// An agent as it prints, and what must come of it.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    stdout: &'static str,
    stderr: &'static str,
    code: i32,
    /// Uncached, cached, output, reasoning; null where nobody says.
    tokens: Option<(u64, u64, u64, Option<u64>)>,
    exact: bool,
    /// The kind of failure, and agentguard's exit code.
    kind: Option<&'static str>,
    exits: i32,
}

const TRUTH: Option<(u64, u64, u64, Option<u64>)> = Some((468, 2000, 112, Some(14)));
const TRUTH_BUT_REASONING: Option<(u64, u64, u64, Option<u64>)> = Some((468, 2000, 112, None));

const OK: Case = Case { name: "", stdout: "", stderr: "", code: 0, tokens: None, exact: true, kind: None, exits: 0 };

const CODEX_BEGIN: &str = r#"{"type":"thread.started","thread_id":"t1"}
{"type":"item.completed","item":{"id":"item_0","type":"error","message":"Model metadata not found."}}
{"type":"turn.started"}
"#;

fn codex() -> Vec<Case> {
    let work = r#"{"type":"item.completed","item":{"id":"item_2","type":"agent_message","text":"Done."}}"#;
    let usage = |figures: &str| -> &'static str {
        let end = format!("{{\"type\":\"turn.completed\",\"usage\":{{{figures}}}}}\n");
        Box::leak(format!("{CODEX_BEGIN}{work}\n{end}").into_boxed_str())
    };
    let failed = |message: &str| -> &'static str {
        let error = format!("{{\"type\":\"error\",\"message\":\"Reconnecting... 1/5 ({message})\"}}\n");
        let end = format!("{{\"type\":\"turn.failed\",\"error\":{{\"message\":\"{message}\"}}}}\n");
        Box::leak(format!("{CODEX_BEGIN}{error}{end}").into_boxed_str())
    };
    let figures = r#""input_tokens":2468,"cached_input_tokens":2000,"cache_write_input_tokens":0,"output_tokens":112,"reasoning_output_tokens":14"#;
    let zeros = r#""input_tokens":0,"cached_input_tokens":0,"output_tokens":0,"reasoning_output_tokens":0"#;
    let nothing = r#"{"type":"turn.completed","usage":{"input_tokens":10,"output_tokens":0}}"#;
    vec![
        Case { name: "codex ok", stdout: usage(figures), tokens: TRUTH, ..OK },
        Case { name: "codex nousage", stdout: usage(zeros), ..OK },
        Case {
            name: "codex e401",
            stdout: failed("unexpected status 401 Unauthorized: stub: status 401, url: http://h/v1/responses"),
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "codex cut",
            stdout: failed("stream disconnected before completion: Transport error"),
            code: 1,
            kind: Some("api_stream_cut"),
            exits: 1,
            ..OK
        },
        Case {
            name: "codex empty",
            stdout: Box::leak(format!("{CODEX_BEGIN}{nothing}\n").into_boxed_str()),
            tokens: Some((10, 0, 0, None)),
            kind: Some("empty_output"),
            exits: 1,
            ..OK
        },
        Case { name: "codex text", stdout: "Done.\n", stderr: "codex\nDone.\ntokens used\n580\n", ..OK },
    ]
}

fn claude_and_qwen() -> Vec<Case> {
    vec![
        Case {
            name: "claude json",
            stdout: r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"Done.","session_id":"s","total_cost_usd":0.01,"usage":{"input_tokens":468,"cache_read_input_tokens":2000,"cache_creation_input_tokens":0,"output_tokens":112}}"#,
            tokens: TRUTH_BUT_REASONING,
            ..OK
        },
        // One message is told three times while it streams: the largest counts, and only until the result says it all.
        Case {
            name: "claude stream that was cut off",
            stdout: r#"{"type":"system","subtype":"init","session_id":"s","model":"claude-sonnet-4-5"}
{"type":"assistant","message":{"id":"m1","model":"claude-sonnet-4-5","usage":{"input_tokens":234,"cache_read_input_tokens":1000,"output_tokens":1}},"session_id":"s"}
{"type":"assistant","message":{"id":"m1","model":"claude-sonnet-4-5","usage":{"input_tokens":234,"cache_read_input_tokens":1000,"output_tokens":56}},"session_id":"s"}
{"type":"assistant","message":{"id":"m2","model":"claude-sonnet-4-5","usage":{"input_tokens":234,"cache_read_input_tokens":1000,"output_tokens":56}},"session_id":"s"}
"#,
            code: 143,
            tokens: TRUTH_BUT_REASONING,
            exact: false,
            kind: Some("exit_code"),
            exits: 143,
            ..OK
        },
        Case {
            name: "claude says success and means an error",
            stdout: r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"num_turns":1,"result":"API Error: overloaded","session_id":"s","usage":{"input_tokens":0,"output_tokens":0}}"#,
            kind: Some("api_overloaded"),
            exits: 1,
            ..OK
        },
        Case {
            name: "claude ran out of turns",
            stdout: r#"{"type":"result","subtype":"error_max_turns","is_error":false,"num_turns":9,"session_id":"s","usage":{"input_tokens":5,"output_tokens":6}}"#,
            tokens: Some((5, 0, 6, None)),
            kind: Some("agent_reported"),
            exits: 1,
            ..OK
        },
        Case {
            name: "qwen json",
            stdout: r#"[{"type":"system","subtype":"init","session_id":"s","model":"m","qwen_code_version":"0.15"},{"type":"assistant","session_id":"s","message":{"id":"a","model":"m","content":[{"type":"tool_use"}],"usage":{"input_tokens":1234,"output_tokens":56,"cache_read_input_tokens":1000,"total_tokens":1290}}},{"type":"result","subtype":"success","session_id":"s","is_error":false,"num_turns":2,"result":"Done.","usage":{"input_tokens":2468,"output_tokens":112,"cache_read_input_tokens":2000,"total_tokens":2580}}]"#,
            tokens: TRUTH_BUT_REASONING,
            ..OK
        },
        Case {
            name: "qwen e401",
            stdout: r#"[{"type":"system","subtype":"init","session_id":"s","model":"m","qwen_code_version":"0.15"},{"type":"result","subtype":"success","session_id":"s","is_error":false,"num_turns":1,"result":"[API Error: 401 stub: status 401]","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}]"#,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "qwen cut",
            stdout: r#"{"type":"result","subtype":"success","session_id":"s","is_error":false,"num_turns":1,"result":"[API Error: Model stream ended without a finish reason.]","usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0}}"#,
            kind: Some("api_stream_cut"),
            exits: 1,
            ..OK
        },
    ]
}

fn gemini() -> Vec<Case> {
    vec![
        Case {
            name: "gemini json",
            stdout: "{\n  \"session_id\": \"s\",\n  \"response\": \"Done.\",\n  \"stats\": {\n    \"models\": {\n      \"gemini-2.5-pro\": {\n        \"api\": {\"totalRequests\": 2, \"totalErrors\": 0},\n        \"tokens\": {\"input\": 468, \"prompt\": 2468, \"candidates\": 98, \"total\": 2580, \"cached\": 2000, \"thoughts\": 14, \"tool\": 0},\n        \"roles\": {\"main\": {\"tokens\": {\"prompt\": 2468, \"candidates\": 98, \"cached\": 2000, \"thoughts\": 14}}}\n      }\n    },\n    \"tools\": {\"totalCalls\": 1}\n  }\n}\n",
            tokens: TRUTH,
            ..OK
        },
        Case {
            name: "gemini stream",
            stdout: "{\"type\":\"init\",\"session_id\":\"s\",\"model\":\"gemini-2.5-pro\"}\n{\"type\":\"result\",\"status\":\"success\",\"stats\":{\"total_tokens\":2580,\"input_tokens\":2468,\"output_tokens\":98,\"cached\":2000,\"models\":{\"gemini-2.5-pro\":{\"total_tokens\":2580,\"input_tokens\":2468,\"output_tokens\":98,\"cached\":2000}}}}\n",
            tokens: TRUTH,
            ..OK
        },
        // 145 is 401 modulo 256, and no signal.
        Case {
            name: "gemini e401",
            stderr: "Warning: basic terminal\n{\n  \"session_id\": \"s\",\n  \"error\": {\n    \"type\": \"Error\",\n    \"message\": \"stub\",\n    \"code\": 401\n  }\n}\n",
            code: 145,
            kind: Some("api_auth"),
            exits: 145,
            ..OK
        },
        Case {
            name: "gemini empty",
            stdout: "{\n  \"session_id\": \"s\",\n  \"response\": \"\",\n  \"stats\": {\n    \"models\": {}\n  },\n  \"error\": {\n    \"type\": \"INVALID_STREAM\",\n    \"message\": \"odd\"\n  }\n}\n",
            kind: Some("api_stream_cut"),
            exits: 1,
            ..OK
        },
    ]
}

const OPENCODE: &str = r#"{"type":"tool_use","sessionID":"s","part":{"type":"tool"}}
{"type":"step_finish","sessionID":"s","part":{"id":"p1","reason":"tool-calls","tokens":{"total":1290,"input":234,"output":49,"reasoning":7,"cache":{"write":0,"read":1000}},"cost":0.001}}
{"type":"step_finish","sessionID":"s","part":{"id":"p2","reason":"stop","tokens":{"total":1290,"input":234,"output":49,"reasoning":7,"cache":{"write":0,"read":1000}},"cost":0.001}}
"#;

const PI: &str = r#"{"type":"message_end","message":{"role":"user","content":[]}}
{"type":"message_update","message":{"role":"assistant","model":"m","stopReason":"stop","usage":{"input":9999,"output":9999}}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"toolCall"}],"model":"m","stopReason":"toolUse","usage":{"input":234,"output":56,"cacheRead":1000,"cacheWrite":0,"cost":{"total":0.001}}}}
{"type":"message_end","message":{"role":"assistant","content":[{"type":"text"}],"model":"m","stopReason":"stop","usage":{"input":234,"output":56,"cacheRead":1000,"cacheWrite":0,"cost":{"total":0.001}}}}
{"type":"turn_end","message":{"role":"assistant","stopReason":"stop","usage":{"input":234,"output":56,"cacheRead":1000}}}
"#;

fn others() -> Vec<Case> {
    vec![
        Case { name: "opencode ok", stdout: OPENCODE, tokens: TRUTH, exact: false, ..OK },
        Case {
            name: "opencode e401",
            stdout: r#"{"type":"error","sessionID":"s","error":{"name":"APIError","data":{"message":"stub","statusCode":401,"isRetryable":false}}}"#,
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case { name: "pi ok", stdout: PI, tokens: TRUTH_BUT_REASONING, ..OK },
        Case {
            name: "pi e401",
            stdout: r#"{"type":"message_end","message":{"role":"assistant","content":[],"model":"m","stopReason":"error","errorMessage":"401 stub: status 401","usage":{"input":0,"output":0}}}"#,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "copilot text",
            stdout: "Done.\n",
            stderr: "Duration   0s\nTokens     ↑ 2.5k (2.0k cached) • ↓ 112 (14 reasoning)\n",
            tokens: Some((500, 2000, 112, Some(14))),
            exact: false,
            ..OK
        },
        Case {
            name: "copilot e401",
            stdout: "{\"type\":\"session.error\",\"data\":{\"message\":\"Authentication failed\",\"statusCode\":401}}\n{\"type\":\"result\",\"exitCode\":1,\"usage\":{\"premiumRequests\":0}}\n",
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "aider ok",
            stdout: "Aider v0.86.2\nModel: openai/m with diff edit format\n\nTokens: 1.2k sent, 56 received. Cost: $0.0067 message, $0.0067 session.\nTokens: 1.2k sent, 56 received. Cost: $0.0067 message, $0.0134 session.\n",
            tokens: Some((2400, 0, 112, None)),
            exact: false,
            ..OK
        },
        Case {
            name: "aider e401",
            stdout: "Aider v0.86.2\nlitellm.AuthenticationError: AuthenticationError: OpenAIException - stub: status\n401\n",
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "aider recovers",
            stdout: "Aider v0.86.2\nlitellm.APIConnectionError: APIConnectionError: reset\nRetrying in 1.0 seconds...\nTokens: 1.2k sent, 56 received.\n",
            tokens: Some((1200, 0, 56, None)),
            exact: false,
            ..OK
        },
        Case {
            name: "llm ok",
            stdout: "Done.\n",
            stderr: "Token usage: 1,234 input, 56 output, {\"completion_tokens_details\": {\"reasoning_tokens\": 7}, \"prompt_tokens_details\": {\"cached_tokens\": 1000}}\n",
            tokens: Some((234, 1000, 56, Some(7))),
            ..OK
        },
        Case { name: "llm nousage", stdout: "Done.\n", stderr: "Token usage: \n", ..OK },
        Case {
            name: "llm e401",
            stderr: "Error: Error code: 401 - stub: status 401\n",
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case { name: "cn ok", stdout: "{\"response\":\"Done.\",\"status\":\"success\",\"note\":\"wrapped\"}\n", ..OK },
        Case {
            name: "cn e401",
            stderr: "{\"status\":\"error\",\"message\":\"401 stub: status 401\"}\n",
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
        Case {
            name: "mini e401",
            stdout: "Exit:\nlitellm.AuthenticationError: AuthenticationError: OpenAIException - stub: status 401\n",
            code: 1,
            kind: Some("api_auth"),
            exits: 1,
            ..OK
        },
    ]
}

/// Runs a script that prints what an agent printed.
fn agent(project: &Project, case: &Case) -> Outcome {
    project.write("said.out", case.stdout);
    project.write("said.err", case.stderr);
    project.run(&["--out", "o"], &format!("cat said.out; cat said.err >&2; exit {}", case.code))
}

#[test]
fn what_an_agent_says_of_its_tokens_and_its_end_is_in_the_record() {
    let project = Project::new();
    for case in [codex(), claude_and_qwen(), gemini(), others()].concat() {
        let outcome = agent(&project, &case);
        assert_eq!(outcome.code, Some(case.exits), "{}: {outcome:?}", case.name);
        assert_eq!(outcome.text(), case.stdout, "{}", case.name);
        let record = project.last();
        let kind = record.error.as_ref().map(|error| error.kind.to_string());
        assert_eq!(kind.as_deref(), case.kind, "{}: {record:?}", case.name);
        assert_eq!(record.signal, None, "{}", case.name);
        let usage = record.usage.as_ref();
        let told = usage.map(|usage| (usage.input_uncached, usage.input_cached, usage.output, usage.reasoning));
        assert_eq!(told, case.tokens, "{}", case.name);
        assert_eq!(record.tokens_used, case.tokens.map(|(fresh, cached, output, _)| fresh + cached + output));
        let exact = usage.is_none_or(|usage| usage.exact);
        assert!(usage.is_none() || exact == case.exact, "{}: {usage:?}", case.name);
        let class = record.error_class.map(|class| class.to_string());
        assert_eq!(class.as_deref(), case.kind.map(|_| "clean_abort"), "{}", case.name);
    }
}

#[test]
fn an_agent_that_says_it_failed_is_classed_by_what_it_had_staged_and_nothing_lands() {
    let project = Project::new();
    project.write("said", "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"result\":\"no\",\"session_id\":\"s\",\"usage\":{\"input_tokens\":0}}\n");
    let script = "echo new > $AGENTGUARD_STAGING/f; cat said";
    project.run(&["--out", "o"], script).exits(1).says("the agent exited with 0 and says: no");
    assert!(!project.join("o").exists());
    let record = project.last();
    assert_eq!(record.error_class.map(|class| class.to_string()).as_deref(), Some("partial_write"));
    assert_eq!((record.exit_code, record.guard_exit_code), (Some(0), Some(1)));
    // Whoever knows better says so.
    project.run(&["--out", "o", "--usage", "off"], script).exits(0);
    assert_eq!(project.read("o/f"), "new\n");
    assert_eq!(project.last().usage, None);
}

#[test]
fn lines_that_only_look_like_an_agents_are_no_failure() {
    let project = Project::new();
    let finished = "{\"type\":\"thread.started\"}\n{\"type\":\"turn.started\"}\n{\"type\":\"item.completed\",\"item\":{\"type\":\"agent_message\"}}\n{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":10,\"output_tokens\":3}}\n";
    let cases = [
        "{\"type\":\"error\",\"message\":\"401\"}\n{\"status\":\"error\",\"message\":\"401 unauthorized\"}\n",
        "Error: Error code: 401\nlitellm.AuthenticationError: Error: x\n",
        "{\"type\":\"turn.failed\",\"error\":{\"message\":\"401\"}}\n{\"type\":\"result\"}\n",
        "{\"type\":\"result\",\"exitCode\":1,\"test\":\"x\"}\n",
        "{\"type\":\"init\",\"session_id\":7}\n{\"type\":\"result\",\"status\":\"ok\"}\n",
        "{\n \"session_id\": 1,\n \"error\": {\"count\":0}\n}\n",
        "{\n \"session_id\": \"1\",\n \"error\": null, \"stats\":{\"models\":{}}, \"response\":\"\"\n}\n",
        "{\"type\":\"error\",\"sessionID\":1,\"error\":{\"name\":\"x\"}}\n",
        "{\"type\":\"result\",\"subtype\":\"error_count\",\"usage\":{\"cpu\":1}}\n",
        "{\"status\":\"success\",\"response\":\"\",\"note\":1}\n",
        // What comes after a finished turn is somebody else's.
        &format!("{finished}{{\"type\":\"error\",\"message\":\"unused variable\"}}\n"),
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"num_turns\":1,\"session_id\":\"s\",\"result\":\"API Error handling was added.\",\"usage\":{\"input_tokens\":1}}\n",
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"num_turns\":1,\"session_id\":\"s\",\"result\":\"\",\"structured_output\":{},\"usage\":{\"input_tokens\":1}}\n",
    ];
    for said in cases {
        project.write("said", said);
        project.run(&["--out", "o"], "cat said; cat said >&2").exits(0);
        assert_eq!(project.last().error, None, "{said}");
    }
    // An ordinary error is retried like any other.
    for error in ["401 Unauthorized", "relation \\\"authentications\\\" is locked", "no route (api_key.rs:10)"] {
        let script = format!("echo \"Error: {error}\" >&2; exit 1");
        project.run(&["--retries", "1", "--backoff", "1ms", "--out", "o"], &script).exits(1);
        let record = project.last();
        assert_eq!(
            (record.attempts.len(), record.error.expect("a failure").kind.to_string().as_str()),
            (2, "exit_code")
        );
    }
}

const FAILED: &str = "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"session_id\":\"a\",\"num_turns\":1,\"result\":\"no\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}\n";
const WELL: &str = "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"session_id\":\"b\",\"num_turns\":2,\"result\":\"yes\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}\n";

#[test]
fn a_failure_is_heard_among_whatever_else_is_printed_and_the_last_word_counts() {
    let project = Project::new();
    project.write("failed", FAILED);
    project.write("well", WELL);
    let refused = "{\n  \"session_id\": \"s\",\n  \"error\": {\n    \"type\": \"E\",\n    \"message\": \"no\",\n    \"code\": 401\n  }\n}\n";
    let run = |script: &str, code| {
        let script = format!("echo x > $AGENTGUARD_STAGING/f; {script}");
        project.run(&["--out", "o"], &script).exits(code);
    };
    run("printf 'struct s\\n{\\n int a;\\n};\\n'; cat failed", 1);
    run("printf '{\\nx\\n'; cat failed", 1);
    run("printf 'Working... '; cat failed", 1);
    run("cat well; cat failed", 1);
    run("cat failed; cat well", 0);
    let empty = FAILED.replace("true", "false").replace("\"no\"", "\"\"");
    let tool = "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"b\",\"model\":\"m\"}\n{\"type\":\"assistant\",\"message\":{\"id\":\"1\",\"content\":[{\"type\":\"tool_use\"}],\"usage\":{\"input_tokens\":1}}}\n";
    let init = tool.lines().next().expect("a line");
    project.write("two", format!("{tool}{WELL}{init}\n{empty}"));
    run("cat two", 1);
    // On one stream, and then on the other: what was heard is kept, where an agent without a view can see it.
    project.write("refused", refused);
    let in_turn = |script: &str, code| {
        let until =
            |stream| format!("until grep -qs session_id .agentguard/runs/$AGENTGUARD_RUN_ID/{stream}; do :; done");
        let script = script.replace("OUT", &until("stdout")).replace("ERR", &until("stderr"));
        project.run(&["--isolation", "none", "--out", "o"], &script).exits(code);
    };
    in_turn("cat well; OUT; cat refused >&2", 1);
    in_turn("cat refused >&2; ERR; cat well", 0);
}

#[test]
fn a_file_of_figures_that_this_attempt_did_not_write_says_nothing() {
    let project = Project::new();
    let old = project.outside("usage.json");
    std::fs::write(&old, "{\"modelMetrics\":{\"m\":{\"usage\":{\"inputTokens\":9,\"outputTokens\":9}}}}")
        .expect("written");
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&old).and_then(|file| file.set_modified(past)).expect("stamped");
    let path = old.to_str().expect("a path");
    project.ag(&["run", "--out", "o", "--", "sh", "-c", ":", "x", "--usage-output-file", path]).exits(0);
    assert_eq!(project.last().usage, None);
    let script = "test $AGENTGUARD_ATTEMPT = 2 || { touch \"$2\"; exit 1; }";
    let options = ["run", "--retries", "1", "--backoff", "1s", "--out", "o", "--"];
    std::fs::File::options().write(true).open(&old).and_then(|file| file.set_modified(past)).expect("stamped");
    project.ag(&[&options[..], &["sh", "-c", script, "x", "--usage-output-file", path]].concat()).exits(0);
    let tokens: Vec<_> = project.last().attempts.iter().map(|attempt| attempt.tokens).collect();
    assert_eq!(tokens[0], Some(18));
}

#[test]
fn figures_in_files_of_the_agents_own_are_found_where_it_wrote_them() {
    let project = Project::new();
    let copilot = "{\"modelMetrics\":{\"m\":{\"requests\":{\"count\":2},\"usage\":{\"inputTokens\":2468,\"outputTokens\":112,\"cacheReadTokens\":2000,\"cacheWriteTokens\":0,\"reasoningTokens\":14}}},\"agentMetrics\":{}}";
    let mini = "{\"trajectory_format\":\"x\",\"info\":{\"model_stats\":{\"instance_cost\":0.0,\"api_calls\":2},\"exit_status\":\"Submitted\"},\"messages\":[{\"role\":\"assistant\",\"extra\":{\"response\":{\"model\":\"m\",\"usage\":{\"prompt_tokens\":1234,\"completion_tokens\":56,\"prompt_tokens_details\":{\"cached_tokens\":1000},\"completion_tokens_details\":{\"reasoning_tokens\":7}}}}},{\"role\":\"assistant\",\"extra\":{\"response\":{\"model\":\"m\",\"usage\":{\"prompt_tokens\":1234,\"completion_tokens\":56,\"prompt_tokens_details\":{\"cached_tokens\":1000},\"completion_tokens_details\":{\"reasoning_tokens\":7}}}}}]}";
    project.write("copilot.json", copilot);
    project.write("mini.json", mini);
    for view in ["overlay", "clone"] {
        let script = "cp copilot.json \"$2\"";
        project
            .ag(&["run", "--view", view, "--", "sh", "-c", script, "x", "--usage-output-file", "usage.json"])
            .exits(0);
        let usage = project.last().usage.expect("figures");
        assert_eq!(
            (usage.source.as_str(), usage.calls, usage.tokens()),
            ("session_file", Some(2), Some(2580)),
            "{view}"
        );
        let script = "cp mini.json traj.json; echo \"Saved trajectory to 'traj.json'\"";
        project.ag(&["run", "--view", view, "--", "sh", "-c", script]).exits(0);
        let usage = project.last().usage.expect("figures");
        assert_eq!(
            (usage.source.as_str(), usage.calls, usage.tokens()),
            ("session_file", Some(2), Some(2580)),
            "{view}"
        );
    }
    // A fifo in its place is not waited for, and a link out of the view is not followed.
    project.write("outside.json", copilot);
    for script in ["mkfifo \"$2\"", "ln -s outside.json \"$2\""] {
        project.ag(&["run", "--out", "o", "--", "sh", "-c", script, "x", "--usage-output-file", "odd.json"]).exits(0);
        assert_eq!(project.last().usage, None, "{script}");
    }
}

#[test]
fn nonsense_in_the_usage_file_is_never_a_figure() {
    let project = Project::new();
    let lines = "{\"input_tokens\": -5}\nhello\n{\"input_tokens\": 10, \"output_tokens\": 1}\n{\"input_tokens\": 1e300}\n{\"output_tokens\": 99";
    project.write("lines", lines);
    project.run(&["--out", "o"], "cat lines >> $AGENTGUARD_USAGE").exits(0);
    let usage = project.last().usage.expect("one line is good");
    assert_eq!((usage.tokens(), usage.exact, usage.source.as_str()), (Some(11), false, "usage_file"));
    let most = u64::MAX;
    let script = format!(
        "for i in 1 2; do echo '{{\"input_tokens\": {most}, \"output_tokens\": {most}}}' >> $AGENTGUARD_USAGE; done"
    );
    project.run(&["--out", "o"], &script).exits(0);
    let record = project.last();
    assert_eq!((record.tokens_used, record.cost_usd), (None, None), "what overflows is unknown");
}

fn reading(format: UsageFormat, chunks: &[&[u8]]) -> Reading {
    let mut reader = Reader::new(format);
    for chunk in chunks {
        reader.take(chunk);
    }
    reader.finish(Vec::new);
    let reading = reader.reading();
    // When it was said is another matter each time.
    Reading { concluded: reading.concluded.map(|_| 0), ..reading }
}

#[test]
fn a_forced_format_is_the_only_one_that_is_read() {
    let both = format!("{PI}{OPENCODE}");
    assert_eq!(reading(UsageFormat::Auto, &[both.as_bytes()]).formats, ["opencode", "pi"]);
    assert_eq!(reading(UsageFormat::Pi, &[both.as_bytes()]).formats, ["pi"]);
    assert_eq!(reading(UsageFormat::File, &[both.as_bytes()]), Reading::default());
}

proptest! {
    #[test]
    fn what_is_read_does_not_depend_on_how_it_arrives(cuts in prop::collection::vec(0_usize..4000, 0..12), which in 0_usize..30) {
        let cases = [codex(), claude_and_qwen(), gemini(), others()].concat();
        let bytes = cases[which % cases.len()].stdout.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(reading(UsageFormat::Auto, &chunks), reading(UsageFormat::Auto, &[bytes]));
    }

    #[test]
    fn no_output_of_whatever_kind_makes_it_fall_over(lines in prop::collection::vec(prop_oneof![
        Just("{\"type\":\"thread.started\"}".to_owned()),
        Just("{\"type\":\"result\",\"subtype\":\"success\",\"usage\":{\"input_tokens\":18446744073709551615,\"output_tokens\":18446744073709551615,\"total_tokens\":1}}".to_owned()),
        Just("{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":-1,\"cached_input_tokens\":99999,\"output_tokens\":1.5}}".to_owned()),
        Just("{".to_owned()), Just("}".to_owned()), Just("Tokens: k sent, M received.".to_owned()),
        "\\{\"type\":\"(error|result|message_end|step_finish|system)\".{0,40}",
        ".{0,60}",
    ], 0..20)) {
        reading(UsageFormat::Auto, &[lines.join("\n").as_bytes()]);
    }
}
