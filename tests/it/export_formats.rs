//! `log --format otlp|prometheus|intoto|junit` and `run --junit`: what other programs read has the shape they expect, the
//! figures of the log, and nothing in it that a name could break.

use std::collections::BTreeMap;
use std::fs;

use agentguard::model::record::Usage;
use agentguard::model::{RunRecord, Text};
use agentguard::store::log::RunLog;
use serde_json::Value;
use sha2::Digest as _;

use crate::project::Project;
use crate::support::record;

const HOSTILE: &str = "a\"b\\c\nd\x1b[31m\u{202e}\0]]>&<x>";

/// An agent that fails of something else each time, and succeeds at last.
const FLAKY: &str = "echo out $AGENTGUARD_ATTEMPT; printf '\\033[31mred\\033[0m \\001 ]]> <x>' >&2
echo '{\"input_tokens\":30,\"output_tokens\":12,\"cost_usd\":0.5,\"model\":\"claude-x\"}' >> $AGENTGUARD_USAGE
[ $AGENTGUARD_ATTEMPT -lt 3 ] && exit $AGENTGUARD_ATTEMPT
echo \"$TRACEPARENT\" > $AGENTGUARD_STAGING/parent";

fn lines(project: &Project, format: &str, options: &[&str]) -> Vec<Value> {
    let text = project.ag(&[&["log", "--format", format], options].concat()).exits(0).text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Attributes of OTLP by name, each with the one value that it has.
fn attributes(of: &Value) -> BTreeMap<String, Value> {
    let pairs = of["attributes"].as_array().expect("attributes").iter();
    let pair = |one: &Value| {
        let value = one["value"].as_object().expect("a value");
        assert_eq!(value.len(), 1, "{one}");
        assert!(one["value"].get("intValue").is_none_or(Value::is_string), "64-bit integers are strings: {one}");
        (one["key"].as_str().expect("a key").to_owned(), value.values().next().expect("one").clone())
    };
    pairs.map(pair).collect()
}

fn spans(line: &Value) -> Vec<Value> {
    line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
}

#[test]
fn a_trace_has_the_run_its_attempts_and_verify_commands_and_the_ids_that_the_agent_was_told() {
    let project = Project::new();
    let options = ["--retries", "2", "--backoff", "1ms", "--out", "o", "--verify", "true", "--label", "k=v"];
    project.run(&options, FLAKY).exits(0);
    let [line] = <[Value; 1]>::try_from(lines(&project, "otlp", &[])).expect("one run");
    assert_eq!(attributes(&line["resourceSpans"][0]["resource"])["service.name"], "agentguard");
    let spans = spans(&line);
    assert_eq!(spans.len(), 5, "the run, three attempts, a verify command");
    let is_hex = |id: &Value, digits: usize| {
        id.as_str().is_some_and(|id| id.len() == digits && id.bytes().all(|digit| b"0123456789abcdef".contains(&digit)))
    };
    let trace = project.last().run_id.to_string().replace('-', "");
    for span in &spans {
        assert!(span["traceId"] == *trace && is_hex(&span["spanId"], 16), "{span}");
        let nanos = |name: &str| span[name].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a string");
        assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
    }
    let ids: std::collections::BTreeSet<&str> = spans.iter().filter_map(|span| span["spanId"].as_str()).collect();
    assert_eq!(ids.len(), 5);
    let root = &spans[0];
    assert!(root.get("parentSpanId").is_none() && root.get("status").is_none(), "success leaves the status unset");
    assert!(spans[1..].iter().all(|span| span["parentSpanId"] == root["spanId"]));
    let of_root = attributes(root);
    let wanted = [
        ("gen_ai.operation.name", Value::from("invoke_agent")),
        ("gen_ai.usage.input_tokens", "90".into()),
        ("gen_ai.usage.output_tokens", "36".into()),
        ("gen_ai.request.model", "claude-x".into()),
        ("gen_ai.provider.name", "anthropic".into()),
        ("agentguard.cost_usd", 1.5.into()),
        ("process.exit.code", "0".into()),
        ("agentguard.label.k", "v".into()),
    ];
    for (name, wanted) in wanted {
        assert_eq!(of_root.get(name), Some(&wanted), "{name}");
    }
    assert_eq!((&spans[2]["name"], &spans[2]["status"]["code"]), (&"invoke_agent sh".into(), &2.into()));
    assert_eq!(attributes(&spans[2])["error.type"], "exit_code");
    assert!(spans[3].get("status").is_none());
    let parent = project.read("o/parent");
    assert_eq!(parent.trim(), format!("00-{trace}-{}-01", spans[3]["spanId"].as_str().expect("an id")));
}

#[test]
fn a_failed_trace_says_so_and_names_come_through_as_they_were() {
    let project = Project::new();
    project.run(&["--agent", HOSTILE.split('\0').next().expect("text"), "--out", "o"], "exit 9").exits(9);
    let line = &lines(&project, "otlp", &[])[0];
    let root = &spans(line)[0];
    assert_eq!((&root["status"]["code"], &attributes(root)["error.type"]), (&2.into(), &"exit_code".into()));
    assert_eq!(attributes(root)["gen_ai.agent.name"], HOSTILE.split('\0').next().expect("text"));
    assert!(!attributes(root).contains_key("agentguard.cost_usd"), "unknown is not there");
}

/// Families and series of the text format; fails where a family is told twice or a series is in none.
fn series(text: &str) -> BTreeMap<String, f64> {
    let (mut helped, mut typed, mut all) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.push(rest.split(' ').next().expect("a name").to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and kind");
            assert!(typed.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            let (labelled, value) = line.rsplit_once(' ').expect("a series and its value");
            let name = labelled.split('{').next().expect("a name");
            let family = name.trim_end_matches("_sum").trim_end_matches("_count");
            assert!(typed.contains_key(family) && helped.iter().any(|one| one == family), "{line}");
            assert!(all.insert(labelled.to_owned(), value.parse().expect("a number")).is_none(), "{labelled} twice");
        }
    }
    assert_eq!(helped.len(), typed.len());
    all
}

#[test]
fn the_textfile_has_the_sums_of_all_runs_and_of_what_is_unknown_no_zero() {
    let project = Project::new();
    let usage = "echo '{\"input_tokens\":30,\"output_tokens\":12,\"cost_usd\":0.5}' >> $AGENTGUARD_USAGE";
    for _ in 0..2 {
        project.run(&["--agent", "good", "--out", "o"], &format!("{usage}; echo x > $AGENTGUARD_STAGING/x")).exits(0);
    }
    for _ in 0..3 {
        project.run(&["--agent", "bad\"\\\n", "--out", "o"], "exit 1").exits(1);
    }
    let text = project.ag(&["log", "--format", "prometheus"]).exits(0).text();
    let series = series(&text);
    let value = |name: &str| series.get(name).copied();
    let bad = r#"agent="bad\"\\\\\\n""#;
    assert_eq!(value("agentguard_runs_total{agent=\"good\",status=\"succeeded\",class=\"\"}"), Some(2.0));
    assert_eq!(value(&format!("agentguard_runs_total{{{bad},status=\"failed\",class=\"clean_abort\"}}")), Some(3.0));
    assert_eq!(value("agentguard_tokens_total{agent=\"good\",type=\"output\"}"), Some(24.0));
    assert_eq!(value("agentguard_cost_dollars_total{agent=\"good\"}"), Some(1.0));
    assert_eq!(value(&format!("agentguard_cost_dollars_total{{{bad}}}")), None, "{text}");
    assert_eq!(value(&format!("agentguard_runs_without_cost_total{{{bad}}}")), Some(3.0));
    assert_eq!(value(&format!("agentguard_breaker_open{{{bad}}}")), Some(1.0));
    assert_eq!(value("agentguard_breaker_open{agent=\"good\"}"), Some(0.0));
    let end = project.records()[1].end_time.unix_micros() as f64 / 1e6;
    assert_eq!(value("agentguard_last_run_timestamp_seconds{agent=\"good\"}"), Some(end));
    assert!(
        !text.contains("timestamp_seconds{agent=\"bad") || !text.contains("last_success_timestamp_seconds{agent=\"bad")
    );
}

#[test]
fn an_export_has_all_runs_and_agents_without_number_are_few_series() {
    let dir = tempfile::tempdir().expect("directory");
    let log = RunLog::at(dir.path());
    for number in 0..400 {
        let usage = Usage { input_uncached: u64::MAX, output: u64::MAX, ..Usage::default() };
        let agent = Text(format!("agent-{number}\u{202e}").into_bytes());
        let _ = log.append(&mut RunRecord { agent, usage: Some(usage), ..record(number) }).expect("appended");
    }
    let text = {
        use agentguard::cmd::export_format::ExportFormat;
        use agentguard::cmd::log::{LogFormat, LogRequest, log as list};
        use agentguard::rules::filter::RunFilters;
        let format = LogFormat::Export(ExportFormat::Prometheus);
        let mut out = Vec::new();
        let request = LogRequest { filters: RunFilters::default(), limit: None, format };
        assert_eq!(list(&log, &request, &mut out, &mut Vec::new()).expect("listed").shown, 400);
        String::from_utf8(out).expect("text")
    };
    let series = series(&text);
    let runs: Vec<&f64> =
        series.iter().filter(|(name, _)| name.starts_with("agentguard_runs_total")).map(|(_, n)| n).collect();
    assert_eq!((runs.len(), runs.into_iter().sum::<f64>()), (201, 400.0));
    assert!(!text.contains('\u{202e}'));
}

#[test]
fn a_statement_names_what_was_read_and_published_by_hashes_that_sha256sum_prints() {
    let project = Project::new();
    project.write("in.txt", "input\n");
    let script = "cp $AGENTGUARD_INPUTS/in.txt $AGENTGUARD_STAGING/copy; exit $CODE";
    let run = |code: &str| {
        let arguments = ["run", "--input", "in.txt", "--out", "o", "--", "sh", "-c", script];
        project.command(&arguments).env("CODE", code).output().expect("runs")
    };
    run("0");
    run("1");
    project.run(&["--workspace"], "echo changed > in.txt; echo new > new.txt").exits(0);
    assert_eq!(lines(&project, "intoto", &["-n", "2"]).len(), 2);
    let statements = lines(&project, "intoto", &[]);
    let [changed, failed, published] = statements.as_slice() else { panic!("{statements:?}") };
    let sum = |text: &str| sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let names = |list: &Value| -> BTreeMap<String, String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|one| {
            (one["name"].as_str().expect("name").into(), one["digest"]["sha256"].as_str().expect("hash").into())
        })
        .collect()
    };
    let log = fs::read_to_string(project.state().join("runs.jsonl")).expect("log");
    for (statement, line) in [published, failed, changed].into_iter().zip(log.split_inclusive('\n')) {
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], "https://in-toto.io/attestation/link/v0.3");
        let id = statement["predicate"]["byproducts"]["run_id"].as_str().expect("an id");
        assert_eq!(names(&statement["subject"])[&format!("runs.jsonl#{id}")], sum(line));
        assert!(statement["predicate"]["command"].as_array().is_some_and(|words| words[0] == "sh"));
    }
    let input = [("in.txt".to_owned(), sum("input\n"))];
    assert_eq!(names(&published["predicate"]["materials"]), input.clone().into());
    assert_eq!(names(&published["subject"])["o/copy"], sum("input\n"));
    assert_eq!(names(&failed["subject"]).len(), 1, "what was not published is vouched for by nobody");
    assert_eq!(failed["predicate"]["byproducts"]["return-value"], 1);
    assert_eq!(names(&changed["subject"])["new.txt"], sum("new\n"));
    assert_eq!(names(&changed["subject"])["in.txt"], sum("changed\n"));
    assert!(names(&changed["predicate"]["materials"]).contains_key("workspace/in.txt"));

    fs::remove_dir_all(project.state().join("runs")).expect("gone");
    let published = &lines(&project, "intoto", &[])[2];
    let hash = project.records()[0].output_hash.expect("a hash").to_string();
    assert_eq!(published["subject"][1]["digest"]["agentguardTree"], *hash);
}

#[test]
fn junit_has_attempts_as_reruns_and_nothing_that_xml_does_not_have() {
    let project = Project::new();
    let options = ["--retries", "2", "--backoff", "1ms", "--out", "o", "--junit", "j.xml"];
    project.run(&options, FLAKY).exits(0);
    let flaky = project.read("j.xml");
    assert!(flaky.contains("<testsuites name=\"agentguard\" tests=\"1\" failures=\"0\" errors=\"0\" "), "{flaky}");
    assert!(flaky.contains("<testcase name=\"sh\" classname=\"agentguard.sh\" "));
    let reruns = |xml: &str, element: &str| {
        xml.matches(&format!("<{element} type=\"exit_code\" message=\"the agent exited with ")).count()
    };
    assert_eq!((reruns(&flaky, "flakyFailure"), reruns(&flaky, "failure")), (2, 0));
    let name = HOSTILE.replace('\0', "");
    let options = ["--retries", "1", "--backoff", "1ms", "--agent", &name, "--label", &format!("{name}={name}")];
    project.run(&[&options[..], &["--out", "o", "--junit", "j.xml"]].concat(), FLAKY).exits(2);
    let failed = project.read("j.xml");
    assert_eq!((reruns(&failed, "rerunFailure"), reruns(&failed, "failure")), (1, 1));
    assert!(failed.contains("<system-out>out 2\n</system-out>"), "{failed}");
    assert!(failed.contains("<system-err>red  ]]&gt; &lt;x&gt;</system-err>"), "{failed}");
    project.run(&["--out", "o", "--verify", "echo wrong; false"], "echo x > $AGENTGUARD_STAGING/x").exits(120);
    let log = project.ag(&["log", "--format", "junit"]).exits(0).text();
    assert!(log.contains("tests=\"3\" failures=\"2\" errors=\"0\"") && log.contains(">wrong\n</failure>"), "{log}");
    assert!(log.contains(&format!("<testcase name=\"{}\"", project.last().run_id)));
    for xml in [flaky, failed, log] {
        let is_legal = |letter: char| matches!(letter, '\t' | '\n' | ' '..);
        assert!(xml.chars().all(|letter| is_legal(letter) && letter != '\u{202e}'), "{xml}");
        parsed(&xml);
    }
}

/// Fails unless a strict parser takes it.
fn parsed(xml: &str) {
    let mut python = std::process::Command::new("python3");
    python.args(["-c", "import sys, xml.etree.ElementTree as tree; tree.fromstring(sys.argv[1])", xml]);
    match python.output() {
        Ok(output) => assert!(output.status.success(), "{}\n{xml}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => crate::project::skip("python3", &error.to_string()),
    }
}
