//! A disk that refuses: it is told, nothing is skipped, and it goes on by itself.

use std::fs;
use std::process::Command;

use crate::support::{World, cursor};

#[tokio::test]
async fn while_the_cursor_cannot_be_written_it_waits_and_tells() {
    let world = World::new().await;
    world.room("general").await;
    let dir = world.path("archive");
    let mut archiver = world.archiver(&dir, &["--gather", "0s"]);
    world.is_kept(&dir, "general").await;
    let blocked = dir.join("general/cursor.json.tmp");
    fs::create_dir(&blocked).unwrap();
    let before = cursor(&dir, "general");
    for count in 0..20 {
        world.admin.say("general", &format!("hello {count}")).await;
    }
    archiver.says("the archive of general waits").await;
    assert_eq!(cursor(&dir, "general"), before);
    fs::remove_dir(&blocked).unwrap();
    archiver.says("the archive of general goes on").await;
    world.is_kept(&dir, "general").await;
    world.gateway.shutdown().await;
}

/// A file system of its own, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(&path);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_skipped() {
    let world = World::new().await;
    world.room("general").await;
    let Some(disk) = SmallDisk::mount(world.path("disk")) else {
        println!("skipped: a small disk needs the right to mount one");
        return;
    };
    let dir = disk.0.join("archive");
    let mut archiver = world.archiver(&dir, &["--gather", "0s"]);
    world.is_kept(&dir, "general").await;
    // All that is left is taken.
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    for count in 0_u32..200 {
        // Nothing that could be compressed much.
        let noise: String = (0..200_u32)
            .map(|index| format!("{:x}", (index + count * 200).wrapping_mul(2_654_435_761)))
            .collect();
        world.admin.say("general", &noise).await;
    }
    archiver.says("No space left on device").await;
    archiver.kill().await;
    // A start on a full disk waits as well.
    let mut archiver = world.archiver(&dir, &["--gather", "0s"]);
    archiver.says("No space left on device").await;
    fs::remove_file(&ballast).unwrap();
    archiver.says("the archive of general goes on").await;
    let mut remount = Command::new("mount");
    remount.args(["-o", "remount,size=16m"]).arg(&disk.0);
    assert!(remount.status().unwrap().success());
    world.is_kept(&dir, "general").await;
    archiver.kill().await;
    world.gateway.shutdown().await;
}
