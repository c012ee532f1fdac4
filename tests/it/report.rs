//! `agentguard report`: one page that counts what the log has, obeys nothing that a run could choose, and stays bounded.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

use agentguard::model::error_kind::Failure;
use agentguard::model::record::{AttemptRecord, VerifyRecord};
use agentguard::model::{ErrorClass, ErrorKind, RunRecord, Status, Text};
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use crate::project::{Project, is_again, skip};
use crate::support::{record, run_id};

/// What a name could be.
const HOSTILE: [&str; 9] = [
    "</script><script>document.title='owned'</script>",
    "\"'><img src=x onerror=document.title='owned'>",
    "nul\0nul",
    "\u{202e}gpj.exe\u{202c}",
    "--><!--",
    "</style></title></pre></textarea>",
    "&lt;b&gt;\\u003c",
    "a\nb\tc\x1b[31m\x1b]0;title\x07",
    "${alert(1)}`{{7*7}}",
];

/// A run that failed of its gate.
fn rejected(number: u64) -> RunRecord {
    let at = record(number);
    let error = Failure::new(ErrorKind::VerifyFailed, "make check exited with 2");
    RunRecord {
        status: Status::Rejected,
        error_class: Some(ErrorClass::SilentDrift),
        published: false,
        attempts: vec![AttemptRecord {
            start: at.start_time,
            end: at.end_time,
            exit_code: Some(0),
            signal: None,
            error_class: Some(ErrorClass::SilentDrift),
            error: Some(error.clone()),
            tokens: Some(10),
            cost: None,
            staged_files: 2,
            staged_bytes: 99,
        }],
        verify: vec![VerifyRecord { command: "make check".into(), exit_code: Some(2), duration_ms: 5 }],
        error: Some(error),
        ..at
    }
}

/// A record in whose every field that a run could choose stands the text.
fn hostile(number: u64, text: &Text) -> RunRecord {
    let mut run = if number.is_multiple_of(2) { rejected(number) } else { record(number) };
    let string = text.to_string_lossy().into_owned();
    run.agent = text.clone();
    run.command = vec![text.clone(), text.clone()];
    run.targets = vec![text.clone()];
    run.cwd = text.clone();
    run.host = text.clone();
    run.labels.insert(string.clone(), string.clone());
    run.needs = vec![string.clone()];
    run.verify.iter_mut().for_each(|verify| verify.command = text.clone());
    for error in run.attempts.iter_mut().filter_map(|attempt| attempt.error.as_mut()).chain(run.error.as_mut()) {
        error.message = string.clone();
        error.hint = Some(string.clone());
    }
    run
}

/// A project with these records as its whole log.
fn project_of(records: impl IntoIterator<Item = RunRecord>) -> Project {
    let project = Project::new();
    project.run(&["--out", "o"], "true").exits(0);
    // As if never built: of records that were not run no breaker knows.
    let _ = fs::remove_dir_all(project.state().join("breakers"));
    let mut log = BufWriter::new(fs::File::create(project.state().join("runs.jsonl")).expect("log"));
    for record in records {
        serde_json::to_writer(&mut log, &record).expect("written");
        log.write_all(b"\n").expect("written");
    }
    log.flush().expect("written");
    project
}

fn hostile_project() -> Project {
    let mut texts: Vec<Text> = HOSTILE.iter().map(|text| Text::from(*text)).collect();
    texts.push(Text(b"\xff\xfe\xc3".to_vec()));
    texts.push("x".repeat(10_000).into());
    texts.push("\u{202e}<&>\"'".repeat(1000).into());
    let records: Vec<RunRecord> =
        texts.iter().cycle().take(60).zip(0..).map(|(text, number)| hostile(number, text)).collect();
    let project = project_of(records.clone());
    for run in &records {
        let dir = project.state().join("runs").join(run.run_id.to_string());
        fs::create_dir_all(&dir).expect("run directory");
        fs::write(dir.join("verify-1.log"), HOSTILE.join("\n").repeat(200)).expect("log");
        fs::write(dir.join("stderr"), [b"\xff</pre>", HOSTILE.join("\n").as_bytes()].concat()).expect("log");
        fs::write(dir.join("stdout"), "key sk-abcdefghijklmnopqrstuvwxyz0123456789 </script>\n").expect("log");
    }
    project
}

/// The data of the page's script.
fn island(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").expect("data");
    serde_json::from_str(rest.split_once("</script>").expect("an end").0).expect("JSON")
}

fn page_of(project: &Project, options: &[&str]) -> String {
    project.ag(&[&["report", "-o", "-"], options].concat()).exits(0).text()
}

/// The text of a section.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no section {id}"));
    rest.split_once("</section>").expect("an end").0
}

#[test]
fn the_page_counts_what_the_log_has_and_names_what_failed() {
    let mut redrive = record(4);
    redrive.redrive_of = Some(run_id(2));
    redrive.cost_usd = Some(0.25);
    redrive.tokens_used = Some(1500);
    let mut other = rejected(5);
    other.agent = "other".into();
    let project = project_of([record(0), rejected(1), rejected(2), rejected(3), redrive, other]);
    let page = page_of(&project, &[]);
    for told in [
        "<h3>Runs</h3><p class=\"value\">6</p><p>2 published</p>",
        "<h3>Success</h3><p class=\"value\">33.3 %</p><p>4 failed, 0 cancelled</p>",
        "<h3>Dead letters</h3><p class=\"value\">3</p>",
        "<h3>Cost</h3><p class=\"value\">$0.2500</p><p>not known of 5 runs</p>",
        "silent_drift 4",
    ] {
        assert!(page.contains(told), "{told:?} is missing in\n{page}");
    }
    let dead = section(&page, "dead-letters");
    let is_dead = |number: u64| dead.contains(&run_id(number).short());
    assert_eq!([1, 2, 3, 4, 5].map(is_dead), [true, false, true, false, true]);
    assert!(section(&page, "breakers").contains(&run_id(3).short()), "the third failure in a row opened it");
    let failures = section(&page, "failures");
    assert!(failures.contains("<code>make check</code> exited with 2 after 5ms") && failures.contains("verify_failed"));
    assert_eq!(island(&page)["rows"], 6);

    let of_other = page_of(&project, &["--agent", "other"]);
    assert!(of_other.contains("<h3>Runs</h3><p class=\"value\">1</p>"));
    let (since, until) = (record(1).start_time.to_string(), record(3).start_time.to_string());
    let between = page_of(&project, &["--since", &since, "--until", &until]);
    assert!(between.contains("<h3>Runs</h3><p class=\"value\">2</p>"));
    let dead = section(&between, "dead-letters");
    assert!(!dead.contains(&run_id(2).short()), "a redrive counts whenever it was");
    assert!(page_of(&project, &["--agent", "nobody"]).contains("no runs"));
}

#[test]
fn a_damaged_line_is_named_and_the_page_has_the_rest() {
    let project = project_of([record(0), record(1)]);
    let log = project.state().join("runs.jsonl");
    let text = fs::read_to_string(&log).expect("log");
    fs::write(&log, format!("{}\n{{\"run_id\":\u{202e}\n{text}", "x".repeat(100))).expect("written");
    let outcome = project.ag(&["report", "-o", "page.html"]).exits(1).says("byte 0 is damaged").says("byte 101");
    assert!(!outcome.stderr.contains('\u{202e}'));
    let page = project.read("page.html");
    assert!(page.contains("<p class=\"value\">2</p>") && page.contains("2 damaged lines"));
}

#[test]
fn the_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let project = project_of([record(0)]);
    project.write("pages/page.html", "old");
    std::os::unix::fs::symlink("pages/page.html", project.join("link.html")).expect("link");
    project.ag(&["report", "-o", "link.html"]).exits(0).says("wrote 1 run to link.html");
    assert!(project.join("link.html").is_symlink() && project.read("pages/page.html").starts_with("<!doctype html>"));
    project.ag(&["report", "-o", "no/such/page.html"]).exits(125).says("make its directory first");
    project.ag(&["report", "-o", "pages"]).exits(125).says("is a directory");
    project.ag(&["report"]).exits(125);
    let names: Vec<_> =
        fs::read_dir(project.join("pages")).expect("read").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(names, ["page.html"]);
    assert_eq!(project.visible_names(), ["link.html", "pages"]);
}

#[test]
fn nothing_that_a_run_could_choose_is_obeyed_and_everything_is_bounded() {
    let page = page_of(&hostile_project(), &[]);
    let count = |needle: &str| page.matches(needle).count();
    assert_eq!((count("<script"), count("</script"), count("<style"), count("</style")), (2, 2, 1, 1));
    assert_eq!((count("<img"), count("<!--")), (0, 0));
    let markup = page.split("<script type=\"application/json\"").next().expect("markup");
    assert!(!markup.contains("='owned'"), "quotes are entities");
    let obeyed =
        |letter: char| (letter.is_control() && !matches!(letter, '\n' | '\t')) || "\u{202e}\u{202c}".contains(letter);
    assert!(!page.chars().any(obeyed));
    assert!(
        page.contains("&lt;/script&gt;&lt;script&gt;")
            && page.contains("\\u{202e}gpj.exe")
            && page.contains("\\xff\\xfe")
    );
    assert!(!page.contains("sk-abcdefghijkl"), "secrets in what was printed are replaced");
    assert!(page.len() < 3_000_000, "{}", page.len());
    let texts = island(&page)["texts"].as_array().expect("texts").clone();
    assert!(texts.iter().any(|text| text == HOSTILE[0]), "the script has the text as it is");
    assert!(texts.iter().all(|text| text.as_str().is_some_and(|text| text.chars().count() <= 241)));
}

#[test]
fn the_policy_names_the_one_style_and_the_one_script_and_lets_nothing_else_in() {
    let page = page_of(&project_of([record(0)]), &[]);
    let between = |start: &str, end: &str| page.split_once(start).expect("start").1.split_once(end).expect("end").0;
    let policy = between("Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    assert!(policy.starts_with("default-src 'none'; "));
    assert!(policy.contains(&format!("style-src 'sha256-{}';", hash(between("<style>", "</style>")))));
    assert!(policy.contains(&format!("script-src 'sha256-{}';", hash(between("<script>", "</script>")))));
    let before = page.split("Content-Security-Policy").next().expect("a head");
    assert!(!before.contains("<style") && !before.contains("<script"));
    for outside in ["http:", "https:", "src=", "url(", " style=", " onclick="] {
        let markup = page.replace("script-src=", "");
        assert!(!markup.contains(outside), "{outside}");
    }
}

/// A hundred thousand runs, a minute apart, every tenth of them failed.
fn large_project() -> Project {
    let project = project_of([]);
    let mut log = BufWriter::new(fs::File::create(project.state().join("runs.jsonl")).expect("log"));
    let lines = [record(0), rejected(0)].map(|run| serde_json::to_string(&run).expect("JSON"));
    let (id, start) = (run_id(0).to_string(), record(0).start_time.to_string());
    for number in 0..100_000_u64 {
        let at = agentguard::model::Timestamp::from_unix_micros(1_764_000_000_000_000 + number as i64 * 60_000_000);
        let line = lines[usize::from(number % 10 == 9)].replace(&id, &run_id(number).to_string());
        let line = line.replacen(&start, &at.to_string(), 1).replace("\"tokens_used\":null", "\"tokens_used\":18249");
        writeln!(log, "{line}").expect("written");
    }
    log.flush().expect("written");
    project
}

#[test]
fn a_hundred_thousand_runs_are_a_page_of_less_than_twelve_megabytes() {
    if is_again() {
        return;
    }
    let project = large_project();
    project.ag(&["report", "-o", "page.html"]).exits(0);
    let page = project.read("page.html");
    assert!(page.len() <= 12_000_000, "{}", page.len());
    assert!(page.contains("<p class=\"value\">100,000</p>"));
    let data = island(&page);
    assert_eq!(data["rows"], 100_000);
    assert_eq!(data["ids"].as_str().map(str::len), Some(3_200_000));
    if let Some(dom) = dom_of(&project.join("page.html")) {
        assert!(dom.contains("data-script=\"ran\"") && dom.contains("of 100,000"), "the script has read them");
    }
}

/// The page as a browser has it after the script ran; `None` where there is no browser. Nothing may be refused.
fn dom_of(page: &Path) -> Option<String> {
    let home = tempfile::tempdir().expect("a home");
    let profile = format!("--user-data-dir={}", home.path().join("profile").display());
    let options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"];
    let mut browser = Command::new("chromium");
    // Timers of the page run out at once.
    browser
        .args(options)
        .arg("--virtual-time-budget=5000")
        .arg(&profile)
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()));
    let output = match browser.env("HOME", home.path()).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip("chromium", "there is none");
            return None;
        }
        output => output.expect("the browser runs"),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("CONSOLE"), "{said}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Does something on a copy of the page that would let it, and returns the page after it.
fn driven(project: &Project, script: &str) -> Option<String> {
    let page = project.read("page.html");
    let (before, rest) = page.split_once("<meta http-equiv=\"Content-Security-Policy\"").expect("a policy");
    let rest = rest.split_once('>').expect("its end").1;
    let rest = rest.replace("</body>", &format!("<script>{script}</script></body>"));
    let copy = project.write("driven.html", before.to_owned() + &rest);
    dom_of(&copy)
}

#[test]
fn in_a_browser_names_are_text_the_script_searches_and_the_policy_holds() {
    if is_again() {
        return;
    }
    let project = hostile_project();
    project.ag(&["report", "-o", "page.html"]).exits(0);
    let Some(dom) = dom_of(&project.join("page.html")) else { return };
    assert!(dom.contains("data-script=\"ran\"") && dom.contains("<title>agentguard report</title>"));
    assert!(!dom.contains("<img"));

    // A script that somebody smuggled in is not run.
    let page = project.read("page.html");
    let smuggled = page.replace("<main>", "<main><script>document.title='owned'</script>");
    let path = project.write("smuggled.html", smuggled);
    let refused = std::panic::catch_unwind(|| dom_of(&path));
    let said = refused.expect_err("the browser says what it refused");
    assert!(said.downcast_ref::<String>().is_some_and(|said| said.contains("Content Security Policy")));

    let look = "const box=document.querySelector('input[type=search]');\
        const rows=()=>[...document.querySelectorAll('#table tbody tr.open-row')];\
        const all=rows().length; rows()[0].click(); rows()[1].click();\
        const opened=document.querySelectorAll('td.expansion').length;\
        document.querySelectorAll('th button')[4].click();\
        box.value='SUCCEEDED gpj.exe'; box.dispatchEvent(new Event('input'));\
        setTimeout(()=>{document.body.dataset.seen=[all,opened,rows().length,\
            rows().every(row=>row.textContent.includes('gpj.exe'))].join()},400);";
    let dom = driven(&project, look).expect("a browser");
    let seen = dom.split_once("data-seen=\"").map(|(_, rest)| rest.split('"').next().unwrap_or_default());
    assert_eq!(seen, Some("60,2,5,true"));
}
