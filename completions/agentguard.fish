# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_agentguard_global_optspecs
    string join \n state-dir= color= h/help V/version
end

function __fish_agentguard_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_agentguard_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_agentguard_using_subcommand
    set -l cmd (__fish_agentguard_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c agentguard -n "__fish_agentguard_needs_command" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_needs_command" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_needs_command" -s V -l version -d 'Print version'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "run" -d 'Supervise one run of a command'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "replay" -d 'Run a recorded run again from the inputs it had, and compare'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "log" -d 'List runs, newest first'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "stats" -d 'Count runs by agent, failure class, day, model or label: success, duration, tokens, cost'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "show" -d 'Show all about one run'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "apply" -d 'Apply the changes of a held run to its workspace'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "discard" -d 'Drop the changes of a held run'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "undo" -d 'Take a published run back: contents, modes and times are what they were before it'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "diff" -d 'Show what a run changed, as a patch; with two runs, how they differ'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "export" -d 'Put runs, with all that a replay needs, into a portable file'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "import" -d 'Take runs from bundles into this project\'s log, to be shown and replayed here'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "report" -d 'Write one self-contained HTML page about the runs: charts, failures, costs, a searchable table'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "breaker" -d 'See which agents are broken, close their circuit breakers or open them'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "failed" -d 'The dead letters: list failed runs, redrive them, or acknowledge them'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "prices" -d 'See what model calls are reckoned to cost, or take a newer table of prices over'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "recover" -d 'Finish or take back interrupted commits, write missing records, sweep leftovers'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "gc" -d 'Remove what is kept no longer: old runs, what only they relied on, remains'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "fsck" -d 'Check the log\'s chain, the run directories and the snapshots; repair nothing'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "doctor" -d 'Try what this machine allows, and say what is missing and how to get it'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "demo" -d 'See it work: small agents through success, a partial write, a drift, a replay and a cascade'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "schema" -d 'Print the JSON Schema of the run record'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "completions" -d 'Print shell completions'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "man" -d 'Print a man page'
complete -c agentguard -n "__fish_agentguard_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l agent -d 'Name of the agent [default: the command\'s basename]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l label -d 'Attach a label to the record (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l needs -d 'Agents whose results this run builds on: it is not started while one of them is broken (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l input -d 'Freeze this file, directory or glob before the agent starts (repeatable)' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l exclude -d 'Leave out of the inputs what matches (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l snapshot-limit -d 'Refuse a snapshot that would add more than this to the store [default: 4GiB]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l out -d 'Publish a directory (repeatable; a single one is the staging directory itself)' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l out-file -d 'Publish a file, staged under its own name (repeatable)' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l out-from -d 'What staging starts from: empty, or a copy of what the targets hold [default: empty]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l stdout -d 'Publish the agent\'s standard output to a file: the safe form of `agent > FILE`' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l workspace -d 'Stage what the agent changes in this directory [default, without an output option: the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l on-conflict -d 'What becomes of a result that meets somebody else\'s change: fail or hold [default: fail]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l passthrough -d 'A path inside the workspace that is the real one and not staged, such as a cache (repeatable)' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l on-drift -d 'What becomes of a run whose inputs changed under it: record or fail [default: record]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l protect -d 'Reject a result that changes a path that matches (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l allow -d 'Let the result change protected paths that match (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l expect -d 'Demand a non-empty file of the result that matches (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-files -d 'Reject a result with more files' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-bytes -d 'Reject a result with more bytes' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l verify -d 'Judge the result with a shell command; it looks at $AGENTGUARD_RESULT (repeatable, in order, all must pass)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l verify-timeout -d 'Reject a result whose verify command runs longer than this' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l timeout -d 'Stop the agent after this long' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l idle-timeout -d 'Stop the agent after this long without output, staged changes and processor time' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l deadline -d 'End the run after this long, over all attempts' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l kill-after -d 'From asking the agent to stop (TERM) to making it (KILL) [default: 5s]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l retries -d 'Try again up to N times after a failure, each time from the beginning [default: 0]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l backoff -d 'The longest wait before the second attempt, doubled for each further one; any time up to it is waited [default: 1s]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l backoff-max -d 'No wait is longer, but for one that an API asks for [default: 60s]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l retry-on -d 'After which failures to try again: classes (clean_abort, partial_write, silent_drift) or kinds, with commas [default: clean_abort,partial_write]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l stdin -d 'Where standard input comes from: inherit, null or a file [default: inherit]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l tty -d 'Run the agent on a terminal of its own: auto (if agentguard is on one), always or never [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l usage -d 'Whose words count about tokens and cost: auto (what is recognised), off, file ($AGENTGUARD_USAGE alone), or the name of an agent\'s format: claude, codex, gemini, qwen, opencode, pi, copilot, aider, mini, llm, cn; in the environment: AGENTGUARD_USAGE_FORMAT [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l meter-upstream -d 'With --meter: where calls go that come by this variable, e.g. OPENAI_BASE_URL=http://127.0.0.1:8080/v1 (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-tokens -d 'Stop the agent when it has used more tokens than this, over all attempts' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-cost-usd -d 'Stop the agent when it has cost more US dollars than this, over all attempts' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-calls -d 'Stop the agent when it has made more model calls than this, over all attempts' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l nice -d 'Be so much nicer to others than agentguard was started (1 to 19)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l memory -d 'Address space of each of the agent\'s processes' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l pids -d 'Processes of the agent\'s user; root is not held to it' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l max-output -d 'Stop an agent that prints more' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l breaker-threshold -d 'The agent counts as broken after this many failures in a row [default: 3]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l breaker-cooldown -d 'From then until a run that needs it is let through to try; longer after each try that fails [default: 10m]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l isolation -d 'How much must be enforced: auto, strict or none [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l view -d 'How the agent is given its view: auto, overlay or clone [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l allow-write -d 'With --isolation strict: a further path that may be written (repeatable)' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l record-env -d 'Record the value of this environment variable for replay (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l record -d 'Write this run\'s record there too; `-` is standard output' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l junit -d 'Write this run there as JUnit XML, its attempts as reruns; `-` is standard output' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l dotenv -d 'Write what came of this run there as AGENT_RUN_…=value lines, for GitLab\'s dotenv reports; `-` is standard output' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l ci -d 'Speak the language of a CI system: auto (the one around), github, gitlab or off; without some of it with ,no-fence ,no-annotation ,no-summary ,no-section after it [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l progress -d 'Show progress on standard error; auto looks whether it is a terminal [default: auto]' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l hold -d 'Keep an accepted result for `apply` or `discard` instead of applying it'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l no-verify -d 'Run no verify command, also none of the configuration'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l feedback -d 'Tell each further attempt why the one before failed, in the file $AGENTGUARD_FEEDBACK'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l meter -d 'Stand between the agent and its API on loopback, and read usage off the wire: exact, and call by call'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l breaker-self -d 'Do not start this run either while its own agent is broken'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l no-breaker -d 'Start this run whatever is broken; its end is counted all the same'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l no-network -d 'No network but the loopback interface'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -l explain -d 'Run nothing and write nothing: print what would be run, where every setting comes from, and what would come of it'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -s v -l verbose -d 'Say more about what is done'
complete -c agentguard -n "__fish_agentguard_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -l ci -d 'Keep the agent\'s output from being taken for commands of a CI system, as with `run`: auto, github, gitlab or off [default: auto]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -l progress -d 'Show progress on standard error; auto looks whether it is a terminal [default: auto]' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -l commit -d 'Publish the result if the gate accepts it'
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -s v -l verbose -d 'Say more about what is done'
complete -c agentguard -n "__fish_agentguard_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l agent -d 'Only runs of this agent; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l status -d 'Only runs that ended so (succeeded, failed, rejected, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l class -d 'Only runs of this error class (clean_abort, partial_write, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l kind -d 'Only runs that failed of this cause (exit_code, timeout, verify_failed, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l label -d 'Only runs with this label; all that are given must be there' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l since -d 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l until -d 'Only runs that began before this time' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l min-cost -d 'Only runs that cost so many US dollars or more, as far as is known' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l max-cost -d 'Only runs that cost so many US dollars or less, as far as is known' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l grep -d 'Only runs with this text in the message or the hint of their failure' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -s n -l limit -d 'At most this many [default: 50; all of them with otlp, prometheus, intoto and junit]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l format -d 'How to print them' -r -f -a "table\t'For people'
json\t'One JSON array'
jsonl\t'The stored lines'
csv\t'RFC 4180, with titles'
markdown\t'A table for a document'
otlp\t'OpenTelemetry traces: OTLP/JSON, one object per line'
prometheus\t'Sums for the textfile collector of Prometheus'
intoto\t'in-toto link statements, unsigned, one per line'
junit\t'JUnit XML'"
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand log" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l by -d 'What to group by: agent, class, day, model, or label:KEY' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l agent -d 'Only runs of this agent; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l status -d 'Only runs that ended so (succeeded, failed, rejected, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l class -d 'Only runs of this error class (clean_abort, partial_write, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l kind -d 'Only runs that failed of this cause (exit_code, timeout, verify_failed, …); several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l label -d 'Only runs with this label; all that are given must be there' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l since -d 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l until -d 'Only runs that began before this time' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l min-cost -d 'Only runs that cost so many US dollars or more, as far as is known' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l max-cost -d 'Only runs that cost so many US dollars or less, as far as is known' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l grep -d 'Only runs with this text in the message or the hint of their failure' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -s n -l limit -d 'At most this many groups, those with the most runs' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l format -d 'How to print them' -r -f -a "table\t'For people'
json\t'One JSON object: the groups, and the total'
jsonl\t'One JSON object per group'
csv\t'RFC 4180, with titles'
markdown\t'A table for a document'"
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand stats" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l manifest -d 'Print `sha256sum -c` lines of what it read or staged' -r -f -a "inputs\t'What the run read'
outputs\t'What it staged'"
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l listing -d 'With --manifest: print the raw listing that the hash is taken over, of the roots or of DIR' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l json -d 'Print the record as JSON'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l stdout -d 'Print what the agent printed'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l stderr -d 'Print what the agent printed on standard error'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l calls -d 'List the model calls that the meter saw (`run --meter`)'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -l jsonl -d 'With --calls: one JSON object a line'
complete -c agentguard -n "__fish_agentguard_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand apply" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand apply" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand apply" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand discard" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand discard" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand discard" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand discard" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand undo" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand undo" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand undo" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -s U -l unified -d 'Show this many same lines around what differs' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l stat -d 'Show a graph of how much changed in each file'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l numstat -d 'Print lines added and removed, and the name of each file'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l name-status -d 'Print A, D, M or T (another type), and the name of each file'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l name-only -d 'Print the name of each file'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l json -d 'Print one JSON array of all changed paths'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -s z -d 'End names in NUL instead of quoting them'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l exit-code -d 'Exit with 1 if there are changes'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -l no-pager -d 'Do not pass the answer through a pager'
complete -c agentguard -n "__fish_agentguard_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -s o -l output -d 'One bundle in this file; `-` is standard output; a directory, or a name that ends in /, takes one bundle per run' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -l all-failed -d 'Every failed run that was not acknowledged'
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand import" -l limit -d 'Refuse a bundle that would unpack to more than this' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand import" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand import" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -s o -l output -d 'The page; `-` is standard output' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -l agent -d 'Only runs of this agent (repeatable)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -l since -d 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -l until -d 'Only runs that began before this time' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -f -a "list" -d 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -f -a "reset" -d 'Close a breaker and forget the failures'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -f -a "trip" -d 'Open a breaker, so that what needs the agent is not started'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and not __fish_seen_subcommand_from list reset trip help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from list" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from list" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from list" -l json -d 'Print one JSON array'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from reset" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from reset" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from reset" -l all -d 'All that are open or have counted a failure'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from reset" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from trip" -l for -d 'Until a run is let through to try [default: 10m]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from trip" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from trip" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from trip" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from help" -f -a "reset" -d 'Close a breaker and forget the failures'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from help" -f -a "trip" -d 'Open a breaker, so that what needs the agent is not started'
complete -c agentguard -n "__fish_agentguard_using_subcommand breaker; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -f -a "list" -d 'List the dead letters, newest first'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -f -a "redrive" -d 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -f -a "ack" -d 'Say that failed runs need no redrive, and why'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and not __fish_seen_subcommand_from list redrive ack help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l agent -d 'Only of this agent; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l class -d 'Only of this error class; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l since -d 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l max-receives -d 'So many failed redrives set a letter aside' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -s n -l limit -d 'At most this many [default: 50 in a table, else all]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l format -d 'How to print them' -r -f -a "table\t'For people'
json\t'One JSON array'
jsonl\t'One JSON object per line'
csv\t'RFC 4180, with titles'
markdown\t'A table for a document'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l agent -d 'Only of this agent; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l class -d 'Only of this error class; several may be given' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l since -d 'Only runs that began at or after this time (RFC 3339, a date, or an age such as 2h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l max-receives -d 'So many failed redrives set a letter aside' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l max -d 'At most this many, the oldest' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -s j -l jobs -d 'This many at a time' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l rate -d 'Begin at most so many in a second, minute or hour (5/s, 30/m, 100/h)' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l progress -d 'Show progress on standard error; auto looks whether it is a terminal [default: auto]' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -l dry-run -d 'Say what would be redriven, in which order; run nothing'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -s q -l quiet -d 'Say nothing but errors'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -s v -l verbose -d 'Say more about what is done'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from redrive" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from ack" -l reason -d 'Why; kept in acks.jsonl' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from ack" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from ack" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from ack" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the dead letters, newest first'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from help" -f -a "redrive" -d 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from help" -f -a "ack" -d 'Say that failed runs need no redrive, and why'
complete -c agentguard -n "__fish_agentguard_using_subcommand failed; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -f -a "list" -d 'List the prices, or that of one model'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -f -a "import" -d 'Take a newer table over: LiteLLM\'s model_prices_and_context_window.json, or what `list --format tsv` prints'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -f -a "forget" -d 'Go back to the table that agentguard carries'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and not __fish_seen_subcommand_from list import forget help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from list" -l format -d 'As columns, one JSON object, or what `import` reads' -r -f -a "table\t'Columns'
json\t'One JSON object'
tsv\t'A table for `import`'"
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from list" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from list" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from import" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from import" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from forget" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from forget" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the prices, or that of one model'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "import" -d 'Take a newer table over: LiteLLM\'s model_prices_and_context_window.json, or what `list --format tsv` prints'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "forget" -d 'Go back to the table that agentguard carries'
complete -c agentguard -n "__fish_agentguard_using_subcommand prices; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand recover" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand recover" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand recover" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l keep-days -d 'Remove runs that ended more days ago' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l keep-runs -d 'Keep the newest runs only' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l max-size -d 'Remove the oldest runs until the state directory takes no more than this' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l keep-failed-days -d 'Keep failures that nobody has acknowledged for so many days in any case [default: 30]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l log-segment -d 'Close the log\'s newest file once it has so much [default: 64MiB]' -r
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l rotate -d 'Close the log\'s newest file now'
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -l dry-run -d 'Remove nothing: say what would go, and how much that is'
complete -c agentguard -n "__fish_agentguard_using_subcommand gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand fsck" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand fsck" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand fsck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand doctor" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand doctor" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand demo" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand demo" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand schema" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand schema" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand completions" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand completions" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand man" -l state-dir -d 'Where runs are recorded [default: .agentguard in the project root]' -r -F
complete -c agentguard -n "__fish_agentguard_using_subcommand man" -l color -d 'When to use colour' -r -f -a "auto\t'If it is a terminal'
always\t'In any case'
never\t'Not at all'"
complete -c agentguard -n "__fish_agentguard_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "run" -d 'Supervise one run of a command'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "replay" -d 'Run a recorded run again from the inputs it had, and compare'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "log" -d 'List runs, newest first'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "stats" -d 'Count runs by agent, failure class, day, model or label: success, duration, tokens, cost'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "show" -d 'Show all about one run'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "apply" -d 'Apply the changes of a held run to its workspace'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "discard" -d 'Drop the changes of a held run'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "undo" -d 'Take a published run back: contents, modes and times are what they were before it'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "diff" -d 'Show what a run changed, as a patch; with two runs, how they differ'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "export" -d 'Put runs, with all that a replay needs, into a portable file'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "import" -d 'Take runs from bundles into this project\'s log, to be shown and replayed here'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "report" -d 'Write one self-contained HTML page about the runs: charts, failures, costs, a searchable table'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "breaker" -d 'See which agents are broken, close their circuit breakers or open them'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "failed" -d 'The dead letters: list failed runs, redrive them, or acknowledge them'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "prices" -d 'See what model calls are reckoned to cost, or take a newer table of prices over'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "recover" -d 'Finish or take back interrupted commits, write missing records, sweep leftovers'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "gc" -d 'Remove what is kept no longer: old runs, what only they relied on, remains'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "fsck" -d 'Check the log\'s chain, the run directories and the snapshots; repair nothing'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "doctor" -d 'Try what this machine allows, and say what is missing and how to get it'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "demo" -d 'See it work: small agents through success, a partial write, a drift, a replay and a cascade'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "schema" -d 'Print the JSON Schema of the run record'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "completions" -d 'Print shell completions'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "man" -d 'Print a man page'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and not __fish_seen_subcommand_from run replay log stats show apply discard undo diff export import report breaker failed prices recover gc fsck doctor demo schema completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from breaker" -f -a "list" -d 'List the breakers: state, since when, failures in a row, next probe, who is blocked'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from breaker" -f -a "reset" -d 'Close a breaker and forget the failures'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from breaker" -f -a "trip" -d 'Open a breaker, so that what needs the agent is not started'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from failed" -f -a "list" -d 'List the dead letters, newest first'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from failed" -f -a "redrive" -d 'Run them again from the inputs they had, oldest first, and publish what the gate accepts'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from failed" -f -a "ack" -d 'Say that failed runs need no redrive, and why'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "list" -d 'List the prices, or that of one model'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "import" -d 'Take a newer table over: LiteLLM\'s model_prices_and_context_window.json, or what `list --format tsv` prints'
complete -c agentguard -n "__fish_agentguard_using_subcommand help; and __fish_seen_subcommand_from prices" -f -a "forget" -d 'Go back to the table that agentguard carries'
