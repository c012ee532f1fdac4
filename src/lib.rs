//! agentguard supervises an agent process: its writes are staged, its result is verified, and what is published is
//! all of it or nothing. This page is the map of the code.
//!
//! # Floors
//!
//! A module uses only modules on lower floors; two on the same floor never name each other (`tests/it/floors.rs`
//! enforces it). Floors 0 and 1 do no IO and read no clock; `unsafe` lives on floor 2 only; `select!` on floor 4 only.
//!
//! ## 0 · `model`
//!
//! Values of the domain.
//!
//! - `breaker`: what is remembered of an agent so that whatever depends on it is not started while it is broken
//! - `call`: `Call`: one model call, as the meter saw it pass
//! - `change`: What a run changed below its workspace: one line per path, and the listing that `output_hash` is taken
//!   over
//! - `digest`: the 32 bytes of a SHA-256, written as 64 lower-case hex digits everywhere a person can see it
//! - `entry`: one line of a tree listing, the unit every hash of this project is made of
//! - `error_kind`: The whole vocabulary of outcomes: `Status`, `ErrorClass` (six values with `null`) and `ErrorKind`
//!   (the precise cause)
//! - `event`: one line of a run's journal, written before its effect is relied on
//! - `facts`: the part of a run's record that runs are filtered and tallied by
//! - `letter`: a dead letter, a failed run that waits until it is redriven or acknowledged
//! - `price`: `Price`: what a model costs, in US dollars per million tokens
//! - `record`: one line of `runs.jsonl`
//! - `rel_path`: a path below some root, validated as a list of components when it is made
//! - `run_id`: a UUIDv7 (RFC 9562), so that ids sort by the time their run started
//! - `size`: a number of bytes as people type and read it (`64MiB`, `2GB`)
//! - `spec`: everything a run will do, resolved once from arguments, environment and configuration (or from a
//!   recorded run); nobody reads those again
//! - `text`: bytes that people usually read as text (arguments, paths, file names) and that Unix does not promise to
//!   be UTF-8
//! - `timestamp`: an instant of the wall clock in UTC, RFC 3339 with microseconds and `Z`
//! - `tokens`: `Tokens`: what model calls used, in the one form that every agent's and every API's figures are brought
//!   to
//! - `usage_format`: `UsageFormat`: whose words are believed about tokens and cost (`--usage`)
//!
//! ## 1 · `rules`
//!
//! Pure decisions.
//!
//! - `breaker`: The circuit breaker as a pure state machine: closed, open for a cool-down, then half open, where one run at
//!   a time goes through as a probe
//! - `classify`: From a precise cause to the recovery pattern it calls for (the table at the head of the product
//!   contract)
//! - `exit_code`: The code agentguard exits with, from how a run ended: the one table behind the contract's
//! - `expectation`: What the gate demands of a sealed result before any verify command is run: limits, expectations,
//!   and the kinds of object that are never published
//! - `filter`: Which runs are meant: the filters that `log` and `stats` share
//! - `fold`: The run record as a pure fold of the run's events: the same function writes it at the end of a run and
//!   on behalf of one whose supervisor was killed
//! - `git_config`: The keys of a git configuration file that make git run something or read elsewhere, and their
//!   values
//! - `ignore_glob`: Globs as gitignore(5) has them, matched byte by byte in time proportional to pattern times path at
//!   worst
//! - `ignore_pattern`: Patterns of ignore files: one line of a `.gitignore`, read and matched as gitignore(5) says and
//!   git does
//! - `letters`: Which runs are dead letters, and what a redrive does to one
//! - `lifecycle`: The one table of a run's life: it judges events while a run lives and when recovery reads a dead
//!   run's journal
//! - `nearest`: "Did you mean": the known word nearest to a mistyped one
//! - `placeholder`: Placeholders in the agent's arguments: `{staging}` and `{inputs}`, anywhere in an argument, more
//!   than once
//! - `pricing`: What tokens cost
//! - `protected`: Paths that a run may not change unless it was allowed to: the guard's own configuration, and what
//!   the next command of a person who trusts the project would run
//! - `recovery`: What recovery does with a run whose supervisor is gone: a pure decision over its journal
//! - `redact`: Redaction of argument vectors for the log: known key shapes anywhere in an argument, URL userinfo, and
//!   the values of options and variables whose names say that they are secret
//! - `redact_bundle`: What leaves the machine in a bundle, without its secrets: values of JSON, and what a run has printed
//! - `relocate`: A recorded specification in another project than it was recorded in: what lay below the old root lies
//!   below the new one
//! - `reproduction`: Whether a replay reproduced its original: status, exit code and output hash, and which outputs
//!   differ
//! - `retention`: Which runs lose their directory: by age, by number and by size; and which never do
//! - `retry`: When a failed attempt is followed by another, and after how long
//! - `run_ref`: how a person names a run on the command line
//! - `spread`: Percentiles of many figures in little memory: exact for few, within 0.4 % for many
//! - `standing`: What can still be decided about an ended run: a pure reading of its journal
//! - `step`: The life of one attempt as a pure function: events in, one action out
//! - `tally`: Runs counted in groups; what is unknown is counted beside what is known
//! - `upstream`: What a run depends on, through what other agents were recorded to need; and the words of a refusal
//!
//! ## 2 · `sys`
//!
//! One kernel or file facility per file, and the only floor with `unsafe`.
//!
//! - `append_file`: Appending to a file whole or not at all, as far as one process can: one `write(2)` with
//!   `O_APPEND`, taken back by `ftruncate(2)` where the disk had room for a part only
//! - `append_lock`: `flock(2)` on a file that exists only to be locked
//! - `beneath`: Handles of directories (`O_PATH`): below a root, never through a symbolic link, out of the root or onto
//!   another mount; or anywhere, by an absolute path of any length
//! - `beside`: Two pieces of work side by side, where the machine has a thread to spare: a full process table must not
//!   end a run
//! - `chance`: Chance, from the kernel
//! - `clock`: Wall clock and randomness, read in one place so that the floors above can be given fixed ones
//! - `copy`: Copying the bytes of one open file into another: shared blocks where the filesystem can, else by the
//!   kernel, else through a buffer
//! - `copy_across`: Copying a staged object to the filesystem of its target
//! - `copy_tree`: Copying a tree: contents, modes, times, links, empty directories, pipes, holes and attributes, by
//!   two threads
//! - `crash`: Named crash points: the places between two effects where a power cut or a full disk may strike
//! - `descendants`: Processes that outlive the one they descend from: waited for, or killed
//! - `descriptor`: Open descriptors: what kind standard input is, and an event descriptor that wakes a poll
//! - `disk`: How much is there: room on a filesystem, files in a tree, processor time
//! - `durable`: `fsync`, where something is relied on after a power cut, and nowhere else
//! - `fixed`: Whether an inode may be renamed at all: the immutable and the append-only attribute refuse it
//! - `hard_links`: Hard links that lead out of a tree: published as they are, a write to the result would write to
//!   whatever private file the agent had linked in
//! - `held`: One object held by a handle: its metadata is read and changed whatever its mode, its kind and its name
//!   meanwhile
//! - `host`: Who and where: host name, user name, umask
//! - `identity`: Which object a path names: device, inode and modification time, read without following a symbolic
//!   link
//! - `inside/`: The inside of a view, and the processes on the way to an agent: zygote, init, helper, agent
//! - `interrupt`: SIGINT while another process has the user's attention
//! - `lock`: `flock(2)`: locks that die with their holder
//! - `metadata`: Giving a new object the owner, attributes, mode and time of the one it is a copy of
//! - `mmap`: A read-only mapping of a whole file
//! - `mount`: Which filesystem a path is on, as far as renames go: two paths are on the same place if a rename
//!   between them cannot answer EXDEV
//! - `mount_table`: The mount table, as `/proc/self/mountinfo` has it
//! - `overlay_layer`: The marks of an overlay's layer: whiteouts and opaque directories, as a mount with `userxattr`
//!   understands them
//! - `process`: One child process in a process group of its own: spawned unchanged, waited for by pidfd, killed as a
//!   group
//! - `pty`: Pseudoterminals: one for an agent whose output is kept while it believes to be on a terminal, and the
//!   caller's own terminal in raw mode meanwhile, so that every key reaches the agent's terminal, which makes signals
//!   of some
//! - `relay`: Moving bytes between an agent and the guard's own standard streams: byte-exact, unbuffered, never
//!   waiting for a pipe that an orphan holds open
//! - `remove`: Removing a tree that somebody else has built: any depth, any modes, any names, never through a
//!   symbolic link
//! - `rename`: Atomic renames: exchange, and rename that never replaces
//! - `terminal`: The controlling terminal: the agent's process group is made the foreground group while it runs, so
//!   that Ctrl-C reaches it exactly once and it may read; the guard's own group gets it back on every way out
//! - `walk`: Reading directory trees by descriptor: stat, names of a directory, and paths longer than `PATH_MAX`
//! - `worker`: Processes of this same program that do a part of its work, and end when it ends
//! - `xattr`: Extended attributes that belong to the user's data: `user.*` and POSIX access lists
//!
//! ## 3 · `store`
//!
//! Bytes on disk, their formats and versions.
//!
//! - `breakers/`: Breakers on disk: what is remembered of agents between runs, under a lock; all of it is a fold of the run
//!   log and is made anew from there where it is missing or damaged
//! - `bundle/`: Runs in one portable file, with all that a replay needs; written, checked, and taken whole or not at all
//! - `capture`: Captured output: the head in a file as it comes (so a killed supervisor leaves it), the tail in a
//!   bounded ring that is written at the end
//! - `change_set`: What a run changed below its workspace, kept in its directory (`changes`): the change set as JSON,
//!   a newline, and the SHA-256 of that in hex
//! - `changes`: What publishing a sealed tree changes at its targets: one line per created, modified or deleted path
//! - `git_state`: Commit and branch of the work tree around a directory, read from git's files: git itself is never
//!   run, so nothing that an agent could have configured is
//! - `ignore/`: What a capture leaves out of a work tree: what git would ignore, and what `.ignore` and
//!   `.agentguardignore` name; git is never run
//! - `journal`: A run's journal: one JSON event per line, appended with one write each, judged by the lifecycle table
//!   as it grows
//! - `kept`: The lock around what is kept: held by whoever is about to rely on it, and by `gc` while it removes
//! - `letters/`: The dead letters: an index that follows the log, the acknowledgements, and the claim on a letter that is
//!   being redriven
//! - `log/`: The run log, `runs.jsonl`: one line per ended run, append-only, a hash chain; older ones in closed segments
//! - `outputs`: The manifest of what a run staged, kept in its directory: the manifest's bytes, then their SHA-256
//! - `price_table`: The price table that somebody imported: `prices.tsv` in the state directory
//! - `publish`: Applying a commit plan: one rename per target, each step idempotent, judged by where the staged inode
//!   is found
//! - `retention/`: Removing what is kept no longer: directories of runs, what only they relied on, and remains
//! - `run_dir`: A run's directory and its mark among the living
//! - `snapshot/`: The content-addressed snapshot store: what a run's inputs were, kept so that they can be given back
//!   exactly
//! - `staged/`: What an agent left in the upper layer of its view, compared with what stood in the workspace when its
//!   run began: the changes for people and hashes, and the steps that a commit takes
//! - `state_dir`: The state directory: where it is, whose it is, which format it has
//! - `transaction/`: The journaled multi-file apply: many operations below one root, all of them or none, never over
//!   somebody else's edit
//! - `trash`: Displaced trees: what a publish has replaced
//!
//! ## 3 · `view`
//!
//! What an agent may see and change, composed from kernel facilities.
//!
//! - `clone`: The clone view: a private copy of the workspace, mounted over its path, or entered where nothing can be
//!   mounted
//! - `clone_copy`: The private copy behind a clone view: how it is made, and what it was like
//! - `facilities`: What this machine allows: every facility is tried for real, on the real directories, and undone
//! - `harvest`: What an agent changed in the private copy behind a clone view becomes an upper layer like that of an
//!   overlay
//! - `layer_clean`: What an agent has made in a copy, and what would mean something else in a layer
//! - `linked`: Files of a workspace with several names, laid into an overlay's layer before the agent starts
//! - `overlay`: The overlay view: the workspace at its own path, copied on write, as a list of steps
//! - `staging`: Publish staging: an empty directory on the targets' filesystem that becomes the targets
//!
//! ## 3 · `usage`
//!
//! Tokens and cost, read from what agents say.
//!
//! - `adapter`: What every reader of an agent's output is: a small state machine over what it prints
//! - `aider`: aider's text lines: rounded figures for each message, and failed calls
//! - `api_error`: From what an agent says of a failed model call to the kind of failure, and to how long the API wants
//!   to be left alone
//! - `claude`: Claude Code (`--output-format json` and `stream-json`), and whatever speaks like it
//! - `cn`: Continue's `cn -p --format json` tells of no tokens: `{"response", "status", "note"}`, or `{"status":
//!   "error", "message"}` on standard error
//! - `codex`: codex `exec --json`: `turn.completed.usage` is cumulative over its thread, so that the last of each
//!   counts; a turn that failed has none
//! - `copilot`: GitHub Copilot CLI: its JSON lines have no tokens; the file of `--usage-output-file` has them by
//!   model, and the text on standard error has them rounded (`Tokens ↑ 2.5k (2.0k cached) • ↓ 112 (14 reasoning)`)
//! - `figures`: What a source says that a run used: entries by model, brought to one form, and whether it is all
//! - `gemini`: gemini-cli: `-o json` is one document with `stats.models.<m>.tokens` (repeated under `roles`, which
//!   must not be added), or with an `error`, on standard error; `-o stream-json` ends with a `result` whose output
//!   leaves out the thoughts: they are the total less input and output
//! - `json`: Fields of JSON that nobody promised: what is missing or of another kind is simply not there
//! - `lines`: What an agent prints, cut into lines and into documents that span several: for readers that want to see
//!   each once, as it comes
//! - `llm`: `llm -u` prints `Token usage: 1,234 input, 56 output, {"prompt_tokens_details": …}` on standard error,
//!   once for each call, and `Error: …` where a call failed
//! - `meter/`: The meter: a reverse proxy on loopback between an agent and its API, which reads usage off the wire
//! - `mini`: mini-swe-agent: exact figures are in its trajectory file, by message; it prints only `Saved trajectory to
//!   'FILE'`
//! - `opencode`: opencode `run --format json`: each `step_finish` has the figures of one call, to be added up; the
//!   call that invents a title is told nowhere, so that they are never all
//! - `pi`: pi `--mode json`: the same usage appears up to five times for a message; only its `message_end` counts
//! - `prices`: Prices of models: those of the configuration, then those that were imported, then the table that
//!   agentguard carries (`prices.tsv`, rebuilt by `scripts/rebuild_prices.py`)
//! - `qwen`: qwen-code: Claude Code's shape (see `claude`) with OpenAI's meaning: input includes what came
//!   from the cache
//! - `reader`: The reader of what an agent prints on one stream: it cuts it into lines and gives each to the formats
//!   that know it
//! - `rounded`: Figures as people are shown them: `2.5k`, `1,234`, `112`
//! - `usage_file`: The generic usage file (`$AGENTGUARD_USAGE`): JSON lines that an agent or a script around it may
//!   append
//! - `wire`: What an API's answer says that a call used: OpenAI's chat and Responses, Anthropic's and Gemini's, as one
//!   JSON document or as server-sent events
//! - `written_file`: Files with figures that some agents write beside what they print: copilot's `--usage-output-
//!   file`, mini-swe-agent's trajectory
//!
//! ## 4 · `run`
//!
//! The road of one run, one stage per file, and the driver that knows their order.
//!
//! - `attempt`: One attempt: staging is laid out, the agent is supervised to its end, and what came of it becomes one
//!   event
//! - `attend`: The loop beside a running process: the only place where sources meet
//! - `begin`: The first stage: the run gets its id, its directory, its mark among the living and its first event
//! - `breaker`: The breakers on the road of a run: before anything is spawned it is asked whether what the run needs works,
//!   and when the run is in the log its end is counted
//! - `commit`: The commit: check, flush, write the intention, rename
//! - `day_budget`: What an agent's runs may cost in a day (UTC), over all of them: what was spent is read from the
//!   log, and a run may spend what is left
//! - `driver`: The driver: it knows the order of the stages, and nothing else
//! - `ended`: `Life`, what every stage of a run owns while it lasts, and `Ended`, how any stage gives it up
//! - `environment`: What the agent and the verify commands find in their environment
//! - `explain`: What a run would find, were it to begin now: nothing is written or made, and nothing is started but processes
//!   that try a view and end
//! - `judge`: The gate: limits and expectations, then the verify commands on a throwaway copy
//! - `lay_out`: What an attempt needs on the host before its agent starts: staging, the private directory, layers or a
//!   copy
//! - `layer`: The throwaway layer of publish mode: what the agent wrote beside staging
//! - `nested`: Runs of agentguards that an agent started inside its view: they committed into that view only, and kept
//!   their state in the run's private directory
//! - `own_terminal`: The terminal that an agent has of its own while its output is kept
//! - `processes`: What the processes of a run are started with: the zygote, and an init process that was made before
//!   anybody knew what for
//! - `progress`: What a run tells whoever is watching
//! - `recover`: Recovery: runs whose supervisor is gone get their end
//! - `resolve`: From what was typed to what it means: inputs and outputs are looked at, and everything that cannot be
//!   carried out is refused here, before anything is spawned or created
//! - `resolve_workspace`: From what was typed to what it means, for workspaces and views: what cannot be carried out
//!   is refused here
//! - `retrying`: From a failed attempt to the next: whether there is one, when, and what it is told of the one before
//! - `scene`: How a process of a run sees the world: which view is tried, what it is made of, and what was in force in
//!   the end
//! - `seal`: After the agent: staging is read, hashed and counted
//! - `settle`: The last stage of every run: its end becomes an event, its events a record, its record a line of the
//!   log
//! - `signals`: The signals that tell agentguard to stop, and blocking work that they may cut short
//! - `snapshot`: The second stage: the inputs are read into the store and laid out for the agent
//! - `spending`: What a run spends on model calls: listens to what its agent prints, adds up what was told, and says
//!   when a budget is passed
//! - `stdin`: Standard input: inherited wherever possible, captured so that a replay has it
//! - `supervise`: The supervision of one process: it is spawned, its streams are relayed and captured, and one loop
//!   turns what happens into events for the pure `step`
//! - `told`: What an agent has told of an attempt when it is over: its usage, its cost, and how it says that it came
//!   out
//! - `using`: What a running attempt uses: what it prints, stages and computes, for its budgets and for whether it is
//!   idle
//! - `verify`: The verify commands: each run by `sh -c` in the run's directory, on a throwaway copy of the sealed
//!   result
//! - `verify_view`: What the verify commands of a run see: the staged result at the place where it will be published,
//!   on a layer (or in a copy) that is thrown away with everything they write
//! - `workspace/`: The road of a run that changes a directory in place, from the end of its agent on: seal, judge,
//!   commit or hold; and what is decided about it after its end
//!
//! ## 5 · `cmd`
//!
//! One file per subcommand: a request in, lower floors called, an answer written to the writer it is given.
//!
//! - `breaker`: which agents are broken and what waits for them; and a person's word on it
//! - `captured`: the end of what a run printed, for reports that are handed on: bounded, secrets replaced
//! - `decide`: decide on a held run, take a published one back
//! - `demo`: the main job on nothing but this program and a shell
//! - `diff/`: what a run changed, as a patch or a list; how two runs differ
//! - `doctor`: which isolation works here, what is missing, and the exact command that fixes it
//! - `explain`: what a run would be and do, and where each of its settings comes from, without one
//! - `export`: runs in a portable file
//! - `failed/`: the dead letters: listed, redriven (each by a process of its own), acknowledged
//! - `export_format/`: runs in the formats of other programs: OpenTelemetry, Prometheus, in-toto, JUnit
//! - `fsck`: look at everything that is kept, report what is wrong, repair nothing
//! - `gc`: remove what is kept no longer
//! - `import`: runs from bundles join the log of this project
//! - `log`: the runs, newest first
//! - `manifest`: `agentguard show RUN --manifest` and `--stdout`, `--stderr`: what a run read, wrote and printed
//! - `prices`: what model calls are reckoned to cost, and a newer table for it
//! - `recover`: finish or take back interrupted commits, write missing records, sweep what was left
//! - `render/`: How values of the domain look to a person
//! - `replay`: run any run again from the inputs it really had, in fresh staging, and compare
//! - `report/`: the runs as one self-contained page of HTML: figures, charts, dead letters, a searchable table
//! - `run`: resolve what was asked, recover what was left, then take the road
//! - `run_choice`: Which run is meant: the one place where a reference that names none, or several, is explained to a
//!   person
//! - `schema`: The JSON Schema of a line of the run log, rendered from the Rust types; the copy in `schema/` is
//!   compared with it by a test
//! - `show/`: all about one run
//! - `stats/`: runs counted, by agent, failure class, day, model or label
//!
//! ## 6 · `cli`
//!
//! What was typed, what is shown, and the exit code.
//!
//! - `args`: The command line as it is typed
//! - `breaker`: `agentguard breaker`: its subcommands, and where their answers go
//! - `bundle`: `agentguard export` and `import`: their options, and where their answers go
//! - `ci/`: What a run says to the CI system around it: fence, annotation, summary; sections
//! - `config`: Layers of configuration: `agentguard.toml` (`[defaults]`, `[agents.NAME]`, `[gc]`) and `AGENTGUARD_<OPTION>`
//! - `diff`: `agentguard diff`: its options, and where its answer goes
//! - `dispatch`: From arguments to an exit code
//! - `explain`: the options of `run` with their values, as the command line's own table has them
//! - `failed`: `agentguard failed`: its subcommands, and where their answers go
//! - `gc`: `agentguard gc`: its options, what `[gc]` says where they are not given, and where its answer goes
//! - `generated`: Completions, man pages and the JSON Schema, rendered from the code
//! - `layered`: The value of one option: what was typed, else what the strongest layer of configuration says
//! - `limits`: The options that limit a run: budgets, and after which failures it is tried again
//! - `origins`: Where the values of options come from, noted as they are taken: for `run --explain`
//! - `pager`: Long answers, page by page, while standard output is a terminal
//! - `prices`: its subcommands, and where their answers go
//! - `progress`: Progress on standard error, while it is a terminal: what is being done and for how long
//! - `query`: The filters that `log` and `stats` share, and `agentguard stats`
//! - `report`: `agentguard report`: its options, and the file that is replaced whole
//! - `reports`: Where `run` writes what came of it, besides the log: `--record`, `--junit`, `--dotenv`, CI
//! - `settings`: From what was typed and configured to what it means: the strongest layer that names an option wins
//! - `summary`: The one line at the end of a run, on standard error
//! - `terminal`: What the standard streams are, and writing to them without dying of a reader that went away
//! - `when`: Times as people type them: RFC 3339, a date, a date and time of day, or an age (`2h`, `3d`)
//!
//! # The road of one run
//!
//! ```text
//! RunSpec → Begun → Snapshotted → Attempted → SealedRun → Accepted ─ commit ─→ Committed → record
//!                        └── whatever ends early: Ended ──────── settle ──────────→ record
//! ```
//!
//! # Invariants
//!
//! - Every arrow has a written shadow: one event in the run's journal before its effect is relied on.
//! - One table ([`rules::lifecycle`]) judges events in life and in recovery; the record is a pure fold of them.
//! - Before the durable `commit_intended` the targets are untouched; after it recovery completes the commit.
//! - No byte of a target is overwritten in place; what is displaced is looked at again and outlives its readers.
//! - Liveness is a held lock, never a pid.
//! - Nothing is read from staging until the agent is dead; staging is compared with its seal right before the commit.

pub mod cli;
pub mod cmd;
pub mod model;
pub mod rules;
pub mod run;
pub mod store;
pub mod sys;
pub mod usage;
pub mod view;
