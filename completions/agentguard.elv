
use builtin;
use str;

set edit:completion:arg-completer[agentguard] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'agentguard'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'agentguard'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand run 'Supervise one run of a command'
            cand replay 'Run a recorded run again from the inputs it had, and compare'
            cand log 'List runs, newest first'
            cand stats 'Count runs by agent, failure class, day, model or label: success, duration, tokens, cost'
            cand show 'Show all about one run'
            cand apply 'Apply the changes of a held run to its workspace'
            cand discard 'Drop the changes of a held run'
            cand undo 'Take a published run back: contents, modes and times are what they were before it'
            cand diff 'Show what a run changed, as a patch; with two runs, how they differ'
            cand export 'Put runs, with all that a replay needs, into a portable file'
            cand import 'Take runs from bundles into this project''s log, to be shown and replayed here'
            cand report 'Write one self-contained HTML page about the runs: charts, failures, costs, a searchable table'
            cand breaker 'See which agents are broken, close their circuit breakers or open them'
            cand failed 'The dead letters: list failed runs, redrive them, or acknowledge them'
            cand prices 'See what model calls are reckoned to cost, or take a newer table of prices over'
            cand recover 'Finish or take back interrupted commits, write missing records, sweep leftovers'
            cand gc 'Remove what is kept no longer: old runs, what only they relied on, remains'
            cand fsck 'Check the log''s chain, the run directories and the snapshots; repair nothing'
            cand doctor 'Try what this machine allows, and say what is missing and how to get it'
            cand demo 'See it work: small agents through success, a partial write, a drift, a replay and a cascade'
            cand schema 'Print the JSON Schema of the run record'
            cand completions 'Print shell completions'
            cand man 'Print a man page'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;run'= {
            cand --agent 'Name of the agent [default: the command''s basename]'
            cand --label 'Attach a label to the record (repeatable)'
            cand --needs 'Agents whose results this run builds on: it is not started while one of them is broken (repeatable)'
            cand --input 'Freeze this file, directory or glob before the agent starts (repeatable)'
            cand --exclude 'Leave out of the inputs what matches (repeatable)'
            cand --snapshot-limit 'Refuse a snapshot that would add more than this to the store [default: 4GiB]'
            cand --out 'Publish a directory (repeatable; a single one is the staging directory itself)'
            cand --out-file 'Publish a file, staged under its own name (repeatable)'
            cand --out-from 'What staging starts from: empty, or a copy of what the targets hold [default: empty]'
            cand --stdout 'Publish the agent''s standard output to a file: the safe form of `agent > FILE`'
            cand --workspace 'Stage what the agent changes in this directory [default, without an output option: the project root]'
            cand --on-conflict 'What becomes of a result that meets somebody else''s change: fail or hold [default: fail]'
            cand --passthrough 'A path inside the workspace that is the real one and not staged, such as a cache (repeatable)'
            cand --on-drift 'What becomes of a run whose inputs changed under it: record or fail [default: record]'
            cand --protect 'Reject a result that changes a path that matches (repeatable)'
            cand --allow 'Let the result change protected paths that match (repeatable)'
            cand --expect 'Demand a non-empty file of the result that matches (repeatable)'
            cand --max-files 'Reject a result with more files'
            cand --max-bytes 'Reject a result with more bytes'
            cand --verify 'Judge the result with a shell command; it looks at $AGENTGUARD_RESULT (repeatable, in order, all must pass)'
            cand --verify-timeout 'Reject a result whose verify command runs longer than this'
            cand --timeout 'Stop the agent after this long'
            cand --idle-timeout 'Stop the agent after this long without output, staged changes and processor time'
            cand --deadline 'End the run after this long, over all attempts'
            cand --kill-after 'From asking the agent to stop (TERM) to making it (KILL) [default: 5s]'
            cand --retries 'Try again up to N times after a failure, each time from the beginning [default: 0]'
            cand --backoff 'The longest wait before the second attempt, doubled for each further one; any time up to it is waited [default: 1s]'
            cand --backoff-max 'No wait is longer, but for one that an API asks for [default: 60s]'
            cand --retry-on 'After which failures to try again: classes (clean_abort, partial_write, silent_drift) or kinds, with commas [default: clean_abort,partial_write]'
            cand --stdin 'Where standard input comes from: inherit, null or a file [default: inherit]'
            cand --tty 'Run the agent on a terminal of its own: auto (if agentguard is on one), always or never [default: auto]'
            cand --usage 'Whose words count about tokens and cost: auto (what is recognised), off, file ($AGENTGUARD_USAGE alone), or the name of an agent''s format: claude, codex, gemini, qwen, opencode, pi, copilot, aider, mini, llm, cn; in the environment: AGENTGUARD_USAGE_FORMAT [default: auto]'
            cand --meter-upstream 'With --meter: where calls go that come by this variable, e.g. OPENAI_BASE_URL=http://127.0.0.1:8080/v1 (repeatable)'
            cand --max-tokens 'Stop the agent when it has used more tokens than this, over all attempts'
            cand --max-cost-usd 'Stop the agent when it has cost more US dollars than this, over all attempts'
            cand --max-calls 'Stop the agent when it has made more model calls than this, over all attempts'
            cand --nice 'Be so much nicer to others than agentguard was started (1 to 19)'
            cand --memory 'Address space of each of the agent''s processes'
            cand --pids 'Processes of the agent''s user; root is not held to it'
            cand --max-output 'Stop an agent that prints more'
            cand --breaker-threshold 'The agent counts as broken after this many failures in a row [default: 3]'
            cand --breaker-cooldown 'From then until a run that needs it is let through to try; longer after each try that fails [default: 10m]'
            cand --isolation 'How much must be enforced: auto, strict or none [default: auto]'
            cand --view 'How the agent is given its view: auto, overlay or clone [default: auto]'
            cand --allow-write 'With --isolation strict: a further path that may be written (repeatable)'
            cand --record-env 'Record the value of this environment variable for replay (repeatable)'
            cand --record 'Write this run''s record there too; `-` is standard output'
            cand --junit 'Write this run there as JUnit XML, its attempts as reruns; `-` is standard output'
            cand --dotenv 'Write what came of this run there as AGENT_RUN_…=value lines, for GitLab''s dotenv reports; `-` is standard output'
            cand --ci 'Speak the language of a CI system: auto (the one around), github, gitlab or off; without some of it with ,no-fence ,no-annotation ,no-summary ,no-section after it [default: auto]'
            cand --progress 'Show progress on standard error; auto looks whether it is a terminal [default: auto]'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --hold 'Keep an accepted result for `apply` or `discard` instead of applying it'
            cand --no-verify 'Run no verify command, also none of the configuration'
            cand --feedback 'Tell each further attempt why the one before failed, in the file $AGENTGUARD_FEEDBACK'
            cand --meter 'Stand between the agent and its API on loopback, and read usage off the wire: exact, and call by call'
            cand --breaker-self 'Do not start this run either while its own agent is broken'
            cand --no-breaker 'Start this run whatever is broken; its end is counted all the same'
            cand --no-network 'No network but the loopback interface'
            cand --explain 'Run nothing and write nothing: print what would be run, where every setting comes from, and what would come of it'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -v 'Say more about what is done'
            cand --verbose 'Say more about what is done'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;replay'= {
            cand --ci 'Keep the agent''s output from being taken for commands of a CI system, as with `run`: auto, github, gitlab or off [default: auto]'
            cand --progress 'Show progress on standard error; auto looks whether it is a terminal [default: auto]'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --commit 'Publish the result if the gate accepts it'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -v 'Say more about what is done'
            cand --verbose 'Say more about what is done'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;log'= {
            cand --agent 'Only runs of this agent; several may be given'
            cand --status 'Only runs that ended so (succeeded, failed, rejected, …); several may be given'
            cand --class 'Only runs of this error class (clean_abort, partial_write, …); several may be given'
            cand --kind 'Only runs that failed of this cause (exit_code, timeout, verify_failed, …); several may be given'
            cand --label 'Only runs with this label; all that are given must be there'
            cand --since 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)'
            cand --until 'Only runs that began before this time'
            cand --min-cost 'Only runs that cost so many US dollars or more, as far as is known'
            cand --max-cost 'Only runs that cost so many US dollars or less, as far as is known'
            cand --grep 'Only runs with this text in the message or the hint of their failure'
            cand -n 'At most this many [default: 50; all of them with otlp, prometheus, intoto and junit]'
            cand --limit 'At most this many [default: 50; all of them with otlp, prometheus, intoto and junit]'
            cand --format 'How to print them'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;stats'= {
            cand --by 'What to group by: agent, class, day, model, or label:KEY'
            cand --agent 'Only runs of this agent; several may be given'
            cand --status 'Only runs that ended so (succeeded, failed, rejected, …); several may be given'
            cand --class 'Only runs of this error class (clean_abort, partial_write, …); several may be given'
            cand --kind 'Only runs that failed of this cause (exit_code, timeout, verify_failed, …); several may be given'
            cand --label 'Only runs with this label; all that are given must be there'
            cand --since 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)'
            cand --until 'Only runs that began before this time'
            cand --min-cost 'Only runs that cost so many US dollars or more, as far as is known'
            cand --max-cost 'Only runs that cost so many US dollars or less, as far as is known'
            cand --grep 'Only runs with this text in the message or the hint of their failure'
            cand -n 'At most this many groups, those with the most runs'
            cand --limit 'At most this many groups, those with the most runs'
            cand --format 'How to print them'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;show'= {
            cand --manifest 'Print `sha256sum -c` lines of what it read or staged'
            cand --listing 'With --manifest: print the raw listing that the hash is taken over, of the roots or of DIR'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --json 'Print the record as JSON'
            cand --stdout 'Print what the agent printed'
            cand --stderr 'Print what the agent printed on standard error'
            cand --calls 'List the model calls that the meter saw (`run --meter`)'
            cand --jsonl 'With --calls: one JSON object a line'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;apply'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;discard'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;undo'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;diff'= {
            cand -U 'Show this many same lines around what differs'
            cand --unified 'Show this many same lines around what differs'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --stat 'Show a graph of how much changed in each file'
            cand --numstat 'Print lines added and removed, and the name of each file'
            cand --name-status 'Print A, D, M or T (another type), and the name of each file'
            cand --name-only 'Print the name of each file'
            cand --json 'Print one JSON array of all changed paths'
            cand -z 'End names in NUL instead of quoting them'
            cand --exit-code 'Exit with 1 if there are changes'
            cand --no-pager 'Do not pass the answer through a pager'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;export'= {
            cand -o 'One bundle in this file; `-` is standard output; a directory, or a name that ends in /, takes one bundle per run'
            cand --output 'One bundle in this file; `-` is standard output; a directory, or a name that ends in /, takes one bundle per run'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --all-failed 'Every failed run that was not acknowledged'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;import'= {
            cand --limit 'Refuse a bundle that would unpack to more than this'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;report'= {
            cand -o 'The page; `-` is standard output'
            cand --output 'The page; `-` is standard output'
            cand --agent 'Only runs of this agent (repeatable)'
            cand --since 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)'
            cand --until 'Only runs that began before this time'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;breaker'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand list 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
            cand reset 'Close a breaker and forget the failures'
            cand trip 'Open a breaker, so that what needs the agent is not started'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;breaker;list'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --json 'Print one JSON array'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;breaker;reset'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --all 'All that are open or have counted a failure'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;breaker;trip'= {
            cand --for 'Until a run is let through to try [default: 10m]'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;breaker;help'= {
            cand list 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
            cand reset 'Close a breaker and forget the failures'
            cand trip 'Open a breaker, so that what needs the agent is not started'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;breaker;help;list'= {
        }
        &'agentguard;breaker;help;reset'= {
        }
        &'agentguard;breaker;help;trip'= {
        }
        &'agentguard;breaker;help;help'= {
        }
        &'agentguard;failed'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand list 'List the dead letters, newest first'
            cand redrive 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
            cand ack 'Say that failed runs need no redrive, and why'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;failed;list'= {
            cand --agent 'Only of this agent; several may be given'
            cand --class 'Only of this error class; several may be given'
            cand --since 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)'
            cand --max-receives 'So many failed redrives set a letter aside'
            cand -n 'At most this many [default: 50 in a table, else all]'
            cand --limit 'At most this many [default: 50 in a table, else all]'
            cand --format 'How to print them'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;failed;redrive'= {
            cand --agent 'Only of this agent; several may be given'
            cand --class 'Only of this error class; several may be given'
            cand --since 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)'
            cand --max-receives 'So many failed redrives set a letter aside'
            cand --max 'At most this many, the oldest'
            cand -j 'This many at a time'
            cand --jobs 'This many at a time'
            cand --rate 'Begin at most so many in a second, minute or hour (5/s, 30/m, 100/h)'
            cand --progress 'Show progress on standard error; auto looks whether it is a terminal [default: auto]'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --dry-run 'Say what would be redriven, in which order; run nothing'
            cand -q 'Say nothing but errors'
            cand --quiet 'Say nothing but errors'
            cand -v 'Say more about what is done'
            cand --verbose 'Say more about what is done'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;failed;ack'= {
            cand --reason 'Why; kept in acks.jsonl'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;failed;help'= {
            cand list 'List the dead letters, newest first'
            cand redrive 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
            cand ack 'Say that failed runs need no redrive, and why'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;failed;help;list'= {
        }
        &'agentguard;failed;help;redrive'= {
        }
        &'agentguard;failed;help;ack'= {
        }
        &'agentguard;failed;help;help'= {
        }
        &'agentguard;prices'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand list 'List the prices, or that of one model'
            cand import 'Take a newer table over: LiteLLM''s model_prices_and_context_window.json, or what `list --format tsv` prints'
            cand forget 'Go back to the table that agentguard carries'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;prices;list'= {
            cand --format 'As columns, one JSON object, or what `import` reads'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;prices;import'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;prices;forget'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;prices;help'= {
            cand list 'List the prices, or that of one model'
            cand import 'Take a newer table over: LiteLLM''s model_prices_and_context_window.json, or what `list --format tsv` prints'
            cand forget 'Go back to the table that agentguard carries'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;prices;help;list'= {
        }
        &'agentguard;prices;help;import'= {
        }
        &'agentguard;prices;help;forget'= {
        }
        &'agentguard;prices;help;help'= {
        }
        &'agentguard;recover'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;gc'= {
            cand --keep-days 'Remove runs that ended more days ago'
            cand --keep-runs 'Keep the newest runs only'
            cand --max-size 'Remove the oldest runs until the state directory takes no more than this'
            cand --keep-failed-days 'Keep failures that nobody has acknowledged for so many days in any case [default: 30]'
            cand --log-segment 'Close the log''s newest file once it has so much [default: 64MiB]'
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand --rotate 'Close the log''s newest file now'
            cand --dry-run 'Remove nothing: say what would go, and how much that is'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;fsck'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;doctor'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;demo'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;schema'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;completions'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;man'= {
            cand --state-dir 'Where runs are recorded [default: .agentguard in the project root]'
            cand --color 'When to use colour'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'agentguard;help'= {
            cand run 'Supervise one run of a command'
            cand replay 'Run a recorded run again from the inputs it had, and compare'
            cand log 'List runs, newest first'
            cand stats 'Count runs by agent, failure class, day, model or label: success, duration, tokens, cost'
            cand show 'Show all about one run'
            cand apply 'Apply the changes of a held run to its workspace'
            cand discard 'Drop the changes of a held run'
            cand undo 'Take a published run back: contents, modes and times are what they were before it'
            cand diff 'Show what a run changed, as a patch; with two runs, how they differ'
            cand export 'Put runs, with all that a replay needs, into a portable file'
            cand import 'Take runs from bundles into this project''s log, to be shown and replayed here'
            cand report 'Write one self-contained HTML page about the runs: charts, failures, costs, a searchable table'
            cand breaker 'See which agents are broken, close their circuit breakers or open them'
            cand failed 'The dead letters: list failed runs, redrive them, or acknowledge them'
            cand prices 'See what model calls are reckoned to cost, or take a newer table of prices over'
            cand recover 'Finish or take back interrupted commits, write missing records, sweep leftovers'
            cand gc 'Remove what is kept no longer: old runs, what only they relied on, remains'
            cand fsck 'Check the log''s chain, the run directories and the snapshots; repair nothing'
            cand doctor 'Try what this machine allows, and say what is missing and how to get it'
            cand demo 'See it work: small agents through success, a partial write, a drift, a replay and a cascade'
            cand schema 'Print the JSON Schema of the run record'
            cand completions 'Print shell completions'
            cand man 'Print a man page'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'agentguard;help;run'= {
        }
        &'agentguard;help;replay'= {
        }
        &'agentguard;help;log'= {
        }
        &'agentguard;help;stats'= {
        }
        &'agentguard;help;show'= {
        }
        &'agentguard;help;apply'= {
        }
        &'agentguard;help;discard'= {
        }
        &'agentguard;help;undo'= {
        }
        &'agentguard;help;diff'= {
        }
        &'agentguard;help;export'= {
        }
        &'agentguard;help;import'= {
        }
        &'agentguard;help;report'= {
        }
        &'agentguard;help;breaker'= {
            cand list 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
            cand reset 'Close a breaker and forget the failures'
            cand trip 'Open a breaker, so that what needs the agent is not started'
        }
        &'agentguard;help;breaker;list'= {
        }
        &'agentguard;help;breaker;reset'= {
        }
        &'agentguard;help;breaker;trip'= {
        }
        &'agentguard;help;failed'= {
            cand list 'List the dead letters, newest first'
            cand redrive 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
            cand ack 'Say that failed runs need no redrive, and why'
        }
        &'agentguard;help;failed;list'= {
        }
        &'agentguard;help;failed;redrive'= {
        }
        &'agentguard;help;failed;ack'= {
        }
        &'agentguard;help;prices'= {
            cand list 'List the prices, or that of one model'
            cand import 'Take a newer table over: LiteLLM''s model_prices_and_context_window.json, or what `list --format tsv` prints'
            cand forget 'Go back to the table that agentguard carries'
        }
        &'agentguard;help;prices;list'= {
        }
        &'agentguard;help;prices;import'= {
        }
        &'agentguard;help;prices;forget'= {
        }
        &'agentguard;help;recover'= {
        }
        &'agentguard;help;gc'= {
        }
        &'agentguard;help;fsck'= {
        }
        &'agentguard;help;doctor'= {
        }
        &'agentguard;help;demo'= {
        }
        &'agentguard;help;schema'= {
        }
        &'agentguard;help;completions'= {
        }
        &'agentguard;help;man'= {
        }
        &'agentguard;help;help'= {
        }
    ]
    $completions[$command]
}
