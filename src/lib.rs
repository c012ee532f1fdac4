//! agentguard supervises an agent process: its writes are staged, its result is verified, and what is published is
//! all of it or nothing. This page is the map of the code.
//!
//! # Floors
//!
//! A module uses only modules on lower floors; two on the same floor never name each other (`tests/it/floors.rs`
//! enforces it). Floors 0 and 1 do no IO and read no clock; `unsafe` lives on floor 2 only; `select!` on floor 4 only.
//!
//! ## 0 · `model`: Floor 0
//!
//! - `digest`: `Digest`
//! - `entry`: `Entry`
//! - `error_kind`: The whole vocabulary of outcomes
//! - `event`: `Event`
//! - `record`: `RunRecord`
//! - `rel_path`: `RelPath`
//! - `run_id`: `RunId`
//! - `size`: `ByteSize`
//! - `spec`: `RunSpec`
//! - `text`: `Text`
//! - `timestamp`: `Timestamp`
//!
//! ## 1 · `rules`: Floor 1
//!
//! - `classify`: From a precise cause to the recovery pattern it calls for (the table at the head of the product
//!   contract)
//! - `exit_code`: The code agentguard exits with, from how a run ended
//! - `expectation`: What the gate demands of a sealed result before any verify command is run
//! - `fold`: The run record as a pure fold of the run's events
//! - `lifecycle`: The one table of a run's life
//! - `nearest`: "Did you mean"
//! - `placeholder`: Placeholders in the agent's arguments
//! - `recovery`: What recovery does with a run whose supervisor is gone
//! - `redact`: Redaction of argument vectors for the log
//! - `reproduction`: Whether a replay reproduced its original
//! - `run_ref`: `RunRef`
//! - `step`: The life of one attempt as a pure function
//!
//! ## 2 · `sys`: Floor 2
//!
//! - `append_file`: Appending to a file whole or not at all, as far as one process can
//! - `append_lock`: `AppendLock`
//! - `clock`: Wall clock and randomness, read in one place so that the floors above can be given fixed ones
//! - `copy`: Copying the bytes of one open file into another
//! - `copy_across`: Copying a staged object to the filesystem of its target
//! - `copy_tree`: Copying a tree
//! - `crash`: Named crash points
//! - `descriptor`: Open descriptors
//! - `durable`: `fsync`, where something is relied on after a power cut, and nowhere else
//! - `hard_links`: Hard links that lead out of a tree
//! - `host`: Who and where
//! - `identity`: Which object a path names
//! - `lock`: `flock(2)`
//! - `metadata`: Giving a new object the owner, attributes, mode and time of the one it is a copy of
//! - `mmap`: A read-only mapping of a whole file
//! - `mount`: Which filesystem a path is on, as far as renames go
//! - `process`: One child process in a process group of its own
//! - `relay`: Moving bytes between an agent and the guard's own standard streams
//! - `remove`: Removing a tree that somebody else has built
//! - `rename`: Atomic renames
//! - `terminal`: The controlling terminal
//! - `walk`: Reading directory trees by descriptor
//! - `xattr`: Extended attributes that belong to the user's data
//!
//! ## 3 · `store`: Floor 3
//!
//! - `capture`: Captured output
//! - `changes`: What publishing a sealed tree changes at its targets
//! - `git_state`: Commit and branch of the work tree around a directory, read from git's files
//! - `journal`: A run's journal
//! - `log/`: The run log, `runs.jsonl`
//! - `outputs`: The manifest of what a run staged, kept in its directory
//! - `publish`: Applying a commit plan
//! - `run_dir`: A run's directory and its mark among the living
//! - `snapshot/`: The content-addressed snapshot store
//! - `state_dir`: The state directory
//! - `trash`: Displaced trees
//!
//! ## 3 · `view`: Floor 3
//!
//! - `staging`: Publish staging
//!
//! ## 3 · `usage`: Floor 3
//!
//! - `usage_file`: The generic usage file (`$AGENTGUARD_USAGE`)
//!
//! ## 4 · `run`: Floor 4
//!
//! - `attempt`: One attempt
//! - `begin`: The first stage
//! - `commit`: The commit
//! - `driver`: The driver
//! - `ended`: `Life`, what every stage of a run owns while it lasts, and `Ended`, how any stage gives it up
//! - `environment`: What the agent and the verify commands find in their environment
//! - `judge`: The gate
//! - `progress`: What a run tells whoever is watching
//! - `recover`: Recovery
//! - `resolve`: From what was typed to what it means
//! - `seal`: After the agent
//! - `settle`: The last stage of every run
//! - `signals`: The signals that tell agentguard to stop, and blocking work that they may cut short
//! - `snapshot`: The second stage
//! - `stdin`: Standard input
//! - `verify`: The verify commands
//!
//! ## 5 · `cmd`: Floor 5
//!
//! - `demo`: `agentguard demo`
//! - `fsck`: `agentguard fsck`
//! - `log`: `agentguard log`
//! - `manifest`: `agentguard show RUN --manifest` and `--stdout`, `--stderr`
//! - `recover`: `agentguard recover`
//! - `render/`: How values of the domain look to a person
//! - `replay`: `agentguard replay`
//! - `run`: `agentguard run`
//! - `run_choice`: Which run is meant
//! - `schema`: The JSON Schema of a line of the run log, rendered from the Rust types; the copy in `schema/` is
//!   compared with it by a test
//! - `show/`: `agentguard show RUN`
//!
//! ## 6 · `cli`: Floor 6
//!
//! - `args`: The command line as it is typed
//! - `config`: Layers of configuration
//! - `dispatch`: From arguments to an exit code
//! - `generated`: Completions, man pages and the JSON Schema, rendered from the code
//! - `progress`: Progress on standard error, while it is a terminal
//! - `settings`: From what was typed and configured to what it means
//! - `summary`: The one line at the end of a run, on standard error
//! - `terminal`: What the standard streams are, and writing to them without dying of a reader that went away
//! - `when`: Times as people type them
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
