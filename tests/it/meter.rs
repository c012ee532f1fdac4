//! The meter between an agent and its API: what passes is what would have passed without it, what was used is known call by
//! call, and nothing else of it is kept.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use agentguard::model::Event;
use agentguard::model::call::Call;
use agentguard::store::journal;
use rustix::process::{Pid, Signal, kill_process};

use crate::project::Project;

/// A server that answers as its paths say, and tells of every request that it was sent.
struct Api {
    port: u16,
    requests: Receiver<String>,
}

const CHAT: &str = r#"{"model":"m","choices":[],"usage":{"prompt_tokens":1234,"completion_tokens":56,"prompt_tokens_details":{"cached_tokens":1000},"completion_tokens_details":{"reasoning_tokens":7}}}"#;

impl Api {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (tell, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let tell = tell.clone();
                std::thread::spawn(move || while serve(&stream, &tell) {});
            }
        });
        Self { port, requests }
    }

    fn url(&self, mode: &str) -> String {
        format!("http://127.0.0.1:{}/{mode}/v1", self.port)
    }
}

/// One request; whether the connection goes on.
fn serve(stream: &TcpStream, tell: &std::sync::mpsc::Sender<String>) -> bool {
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return false;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return false;
    }
    let _ = tell.send(format!("{head}{}", String::from_utf8_lossy(&body)));
    let mut out = stream;
    let mode = head.split('/').nth(1).unwrap_or_default().to_owned();
    let whole = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Odd: \u{e9}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let events = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let stream_of_chat = format!("data: {{\"model\":\"m\",\"choices\":[{{}}]}}\n\ndata: {CHAT}\n\ndata: [DONE]\n\n");
    let (answer, goes_on) = match mode.as_str() {
        "ok" => (whole("200 OK", CHAT), true),
        "stream" => (events(&stream_of_chat), true),
        "e429" => {
            let body = "{\"error\":{\"message\":\"slow down\"}}";
            let head = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Type: application/json\r\n";
            (format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()), true)
        }
        "e401" => (whole("401 Unauthorized", "{\"error\":{\"message\":\"no\"}}"), true),
        // The beginning of an answer, and then nothing.
        "cut" => (events(&stream_of_chat)[..150].to_owned(), false),
        "old" => (format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{CHAT}"), false),
        "reset" => (String::new(), false),
        "hang" => {
            std::thread::sleep(Duration::from_secs(600));
            return false;
        }
        _ => (whole("404 Not Found", "{}"), true),
    };
    let _ = out.write_all(answer.as_bytes());
    if !goes_on {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    goes_on
}

/// An agent that posts to its API `n` times and prints what came.
const AGENT: &str = r#"
import os, sys, urllib.request, urllib.error
url = os.environ[sys.argv[2] if len(sys.argv) > 2 else "OPENAI_BASE_URL"] + "/chat/completions"
for at in range(int(sys.argv[1])):
    request = urllib.request.Request(url, data=b'{"question": "a-secret-question"}', headers={"Authorization": "Bearer sk-a-secret-key", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            body = b""
            try:
                while piece := answer.read1(7):
                    body += piece
            finally:
                print(answer.status, answer.headers.get("X-Odd"), body.decode(), flush=True)
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode(), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"#;

fn project() -> Project {
    let project = Project::new();
    project.write("agent.py", AGENT);
    project
}

fn metered<'a>(upstream: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--meter", "--meter-upstream", upstream, "--out", "o"][..], more].concat()
}

fn calls(project: &Project) -> Vec<Call> {
    let dir = project.state().join("runs").join(project.last().run_id.to_string());
    let events = journal::read(&dir.join("journal")).expect("a journal");
    events.into_iter().filter_map(|event| if let Event::Called(call) = event { Some(*call) } else { None }).collect()
}

#[test]
fn an_agent_sees_what_it_would_see_without_the_meter() {
    let api = Api::new();
    for mode in ["ok", "stream", "e401", "cut", "old", "reset"] {
        let project = project();
        let url = api.url(mode);
        let bare = project.run(&["--out", "o"], &format!("OPENAI_BASE_URL={url} python3 agent.py 2")).exits(0);
        let upstream = format!("OPENAI_BASE_URL={url}");
        let metered = project.run(&metered(&upstream, &["--usage", "off"]), "python3 agent.py 2").exits(0);
        assert_eq!(metered.text(), bare.text(), "{mode}");
        assert_eq!(calls(&project).len(), 2, "{mode}");
        // The request too, but for what belongs to each connection.
        let sent: Vec<String> = api.requests.try_iter().collect();
        let plain = |request: &str| {
            let own = ["host:", "connection:", "accept-encoding:"];
            let mut lines: Vec<String> = request
                .lines()
                .map(str::to_ascii_lowercase)
                .filter(|line| !own.iter().any(|own| line.starts_with(own)))
                .collect();
            lines.sort();
            lines
        };
        assert!(sent.len() >= 4, "{mode}: {sent:?}");
        assert_eq!(plain(&sent[0]), plain(sent.last().expect("four")), "{mode}");
    }
}

#[test]
fn what_every_call_used_is_known_and_one_that_was_cut_is_unknown() {
    let api = Api::new();
    let project = project();
    for mode in ["ok", "stream", "old"] {
        let upstream = format!("OPENAI_BASE_URL={}", api.url(mode));
        project.run(&metered(&upstream, &[]), "python3 agent.py 3").exits(0);
        let record = project.last();
        let usage = record.usage.expect("metered");
        let told = (usage.input_uncached, usage.input_cached, usage.output, usage.reasoning, usage.calls);
        assert_eq!(told, (702, 3000, 168, Some(21), Some(3)), "{mode}");
        assert_eq!((usage.source.as_str(), usage.exact, usage.models), ("meter", true, vec!["m".to_owned()]));
        assert_eq!(record.tokens_used, Some(3870));
    }
    let upstream = format!("OPENAI_BASE_URL={}", api.url("cut"));
    // What the agent itself says of it does not count: the wire knows better.
    let script = "python3 agent.py 2; echo '{\"input_tokens\": 5}' >> $AGENTGUARD_USAGE; exit 3";
    project.run(&metered(&upstream, &[]), script).exits(3).says("the API's answer was cut");
    let record = project.last();
    assert_eq!((record.tokens_used, record.usage), (None, None));
    assert_eq!(record.error.expect("a failure").kind.to_string(), "api_stream_cut");
    let cut = calls(&project);
    assert!(cut.iter().all(|call| call.tokens.is_none() && !call.complete && call.status == Some(200)), "{cut:?}");
    let listed = project.ag(&["show", "@", "--calls"]).exits(0).text();
    assert_eq!(listed.matches("200 cut").count(), 2, "{listed}");
    let lines = project.ag(&["show", "@", "--calls", "--jsonl"]).exits(0).text();
    assert_eq!(lines.lines().filter(|line| line.contains("\"tokens\":null")).count(), 2, "{lines}");
}

#[test]
fn a_refused_key_explains_a_failing_exit_code() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("e401"));
    project.run(&metered(&upstream, &["--retries", "2", "--backoff", "1ms"]), "python3 agent.py 1; exit 1").exits(1);
    let record = project.last();
    assert_eq!((record.error.expect("a failure").kind.to_string().as_str(), record.attempts.len()), ("api_auth", 1));
}

#[test]
fn what_an_api_asks_to_be_waited_is_waited_and_no_proxy_stands_between() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("e429"));
    let script = "http_proxy=http://127.0.0.1:9 python3 agent.py 1; exit $((2 - AGENTGUARD_ATTEMPT))";
    project.run(&metered(&upstream, &["--retries", "1", "--backoff", "1ms"]), script).exits(0);
    let attempts = project.last().attempts;
    assert_eq!(attempts[0].error.as_ref().map(|error| error.kind.to_string()).as_deref(), Some("api_rate_limit"));
    let waited = attempts[1].start.unix_micros() - attempts[0].end.unix_micros();
    assert!(waited >= 1_000_000, "{waited}");
}

#[test]
fn a_budget_stops_the_agent_within_one_call_and_none_passes_after_it() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("ok"));
    // 1290 a call: the third passes 3000.
    project.run(&metered(&upstream, &["--max-tokens", "3000"]), "python3 agent.py 1000").exits(123).says("3870 tokens");
    assert_eq!(api.requests.try_iter().count(), 3);
    assert_eq!(project.last().error.expect("a failure").kind.to_string(), "budget_tokens");
    project
        .run(&metered(&upstream, &["--max-calls", "2"]), "python3 agent.py 1000")
        .exits(123)
        .says("of --max-calls 2");
    assert_eq!(api.requests.try_iter().count(), 2);
    // Over all attempts.
    let options = ["--max-calls", "3", "--retries", "5", "--backoff", "1ms"];
    project.run(&metered(&upstream, &options), "python3 agent.py 2; exit 1").exits(123);
    assert_eq!(api.requests.try_iter().count(), 3);
}

#[test]
fn nothing_of_a_call_is_kept_but_figures() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("ok"));
    project.run(&metered(&upstream, &[]), "python3 agent.py 1 >/dev/null").exits(0);
    let sent: Vec<String> = api.requests.try_iter().collect();
    assert!(sent[0].contains("sk-a-secret-key") && sent[0].contains("a-secret-question"), "{sent:?}");
    for entry in
        walkdir::WalkDir::new(project.state()).into_iter().flatten().filter(|entry| entry.file_type().is_file())
    {
        let bytes = std::fs::read(entry.path()).expect("readable");
        let is_source = String::from_utf8_lossy(&bytes).contains("import os, sys, urllib");
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(is_source || !(holds(b"sk-a-secret-key") || holds(b"a-secret-question")), "{:?}", entry.path());
    }
}

#[test]
fn it_listens_on_loopback_alone_and_under_a_path_that_cannot_be_guessed() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("ok"));
    let script = r#"python3 - <<'END'
import os, re, urllib.request, urllib.error
base = os.environ["OPENAI_BASE_URL"]
host, secret = re.match(r"http://(127\.0\.0\.1:[0-9]+)/([0-9a-f]{32})/[0-9]+/ok/v1$", base).groups()
def status(url, **headers):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status
    except urllib.error.HTTPError as error:
        return error.code
for path in ["/", "/ok/v1/models", "/" + "0" * 32 + "/0/ok/v1/models", "/" + secret, "/" + secret + "/99/x", "/" + secret[:-1] + "/0/x"]:
    assert status(f"http://{host}{path}") == 404, path
# A WebSocket is refused at once, and so the agent goes on with plain requests.
assert status(base + "/responses", Connection="Upgrade", Upgrade="websocket") == 426
# What is no model call passes, and is none.
assert status(base + "/models") == 200
END"#;
    project.run(&metered(&upstream, &[]), script).exits(0);
    assert_eq!(calls(&project), []);
    assert_eq!(project.last().tokens_used, None, "no call is not zero tokens");
}

#[test]
fn an_api_that_hangs_holds_nobody_up_and_one_that_is_not_there_is_said_so() {
    let api = Api::new();
    let project = project();
    let upstream = format!("OPENAI_BASE_URL={}", api.url("hang"));
    let mut guard = project.spawn(&metered(&upstream, &[]), "python3 agent.py 1");
    api.requests.recv_timeout(Duration::from_secs(60)).expect("a request");
    let told = Instant::now();
    kill_process(Pid::from_child(&guard), Signal::TERM).expect("agentguard runs");
    assert_eq!(guard.wait().expect("it ends").code(), Some(143));
    assert!(told.elapsed() < Duration::from_secs(60));
    let hung = calls(&project);
    assert!(hung[0].is_uncounted() && hung.len() == 1 && hung[0].status.is_none() && !hung[0].complete, "{hung:?}");
    // A port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let upstream = format!("OPENAI_BASE_URL=http://127.0.0.1:{free}/v1");
    let told = project.run(&metered(&upstream, &[]), "python3 agent.py 1").exits(0).text();
    assert!(told.starts_with("502 ") && told.contains("agentguard: "), "{told}");
}

#[test]
fn two_providers_are_told_apart_and_a_command_line_can_name_the_meter() {
    let (one, other) = (Api::new(), Api::new());
    let project = project();
    let upstreams = [format!("OPENAI_BASE_URL={}", one.url("ok")), format!("MY_API={}", other.url("stream"))];
    let options = ["--meter", "--meter-upstream", &upstreams[0], "--meter-upstream", &upstreams[1], "--out", "o"];
    let script = "python3 agent.py 1 >/dev/null; python3 agent.py 2 MY_API >/dev/null; echo \"$1 $2\"; echo \"$OPENAI_BASE_URL $MY_API\"";
    let command = [&["run"][..], &options, &["--", "sh", "-c", script, "x", "{meter}", "{meter:MY_API}"]].concat();
    let said = project.ag(&command).exits(0).text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], lines[1]);
    let routes: Vec<String> = calls(&project).into_iter().map(|call| call.route).collect();
    assert_eq!(routes, ["OPENAI_BASE_URL", "MY_API", "MY_API"]);
    assert_eq!(project.last().tokens_used, Some(3870));
}

#[test]
fn a_meter_that_cannot_be_is_refused() {
    let project = project();
    let refused = |options: &[&str], words: &str| {
        project.run(options, "touch ran").exits(125).says(words);
    };
    refused(&["--meter", "--no-network"], "do not go together");
    refused(&["--meter", "--meter-upstream", "OPENAI_BASE_URL=nowhere"], "is no address of an API");
    refused(&["--meter", "--meter-upstream", "nonsense"], "is no pair");
    refused(&["--meter-upstream", "A=http://h/"], "add --meter");
    assert!(!project.join("ran").exists());
}
