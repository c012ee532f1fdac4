//! A power cut, as near as one machine can come to it: the filesystem is shut down without flushing its log, and
//! mounted again.
//!
//! `cargo test -- --ignored transaction_power`, as root, with loop mounts and `xfs_io`.

use std::fs;
use std::path::Path;
use std::process::Command;

use agentguard::store::transaction::{Plan, apply, check, complete, flush, make_durable};

use crate::transaction_crashes::every_kind_of_operation;
use crate::transaction_process::{Road, Written, told};
use crate::transaction_scene::{Directories, Scene, shape};

struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(filesystem: &str) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let disk = Self { dir };
        fs::create_dir(disk.mounted()).expect("made");
        let image = fs::File::create(disk.image()).expect("image");
        image.set_len(400 << 20).expect("size");
        run(&format!("mkfs.{filesystem}"), &["-q".as_ref(), disk.image().as_ref()]);
        disk.mount();
        disk
    }

    fn image(&self) -> std::path::PathBuf {
        self.dir.path().join("image")
    }

    fn mounted(&self) -> std::path::PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&self) {
        run("mount", &["-o".as_ref(), "loop".as_ref(), self.image().as_ref(), self.mounted().as_ref()]);
    }

    /// Whatever is not durable now is lost.
    fn cut_power(&self) {
        run("xfs_io", &["-x".as_ref(), "-c".as_ref(), "shutdown".as_ref(), self.mounted().as_ref()]);
        run("umount", &[self.mounted().as_ref()]);
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.mounted()).status();
    }
}

fn run(program: &str, arguments: &[&Path]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Two files and nothing else: synced one by one.
fn two_files(scene: &Scene) -> Plan {
    for name in ["one", "two"] {
        fs::write(scene.live(name), format!("old {name}")).expect("written");
    }
    let held = fs::File::open(scene.path()).expect("opened");
    agentguard::sys::durable::sync_filesystem(&held).expect("the old state is durable");
    for name in ["one", "two"] {
        fs::write(scene.new_one(name), format!("new {name}").repeat(1000)).expect("written");
    }
    scene.plan(Directories::Merged)
}

#[test]
#[ignore = "mounts filesystems"]
fn what_is_durable_when_the_power_is_cut_is_enough_to_complete_and_to_stay() {
    for filesystem in ["ext4", "xfs"] {
        let disk = Disk::new(filesystem);
        for build in [every_kind_of_operation, two_files] {
            let points = ["apply.checked", "apply.step", "apply.moved", "apply.directory", "apply.applied", ""];
            for (point, passage) in points.into_iter().flat_map(|point| (1..7).map(move |passage| (point, passage))) {
                let scene = Scene::below(&disk.mounted());
                let plan = build(&scene);
                let wanted = shape(&scene.new_one(""));
                check(&plan).expect("sound");
                flush(&plan).expect("flushed");
                let written = Written::new(&scene, &plan);
                let context = format!("{filesystem} {point} {passage}");
                if point.is_empty() {
                    assert_eq!(told(&apply(&plan)), "applied", "{context}");
                    make_durable(&plan).expect("durable");
                } else if written.run(Road::Apply, &format!("{point}:kill@{passage}")).is_some() {
                    break;
                }
                disk.cut_power();
                if !point.is_empty() {
                    assert_eq!(told(&complete(&written.read())), "applied", "{context}");
                }
                assert_eq!(shape(&scene.live("")), wanted, "{context}");
            }
        }
    }
}
