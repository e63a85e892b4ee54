//! Kafka's programs: how they are found, started, stopped and listened to.
//!
//! Invariant: a [`Broker`] that is dropped is dead; nothing that this test starts outlives it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(120);
/// Small processes that start fast: there is little to do and others use the machine too.
const JVM: [&str; 4] = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];

/// Kafka's jars and the two small programs beside them.
pub(crate) struct Kafka {
    class_path: String,
    work: PathBuf,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl Kafka {
    /// Fetches the jars (once: Maven keeps them) and compiles the programs into `work`.
    pub(crate) fn prepare(work: &Path) -> Result<Result<Self, Missing>> {
        let tools: [(&str, &[&str]); 3] =
            [("java", &["-version"]), ("javac", &["--release", "17", "-version"]), ("mvn", &["-version"])];
        for (tool, arguments) in tools {
            let found =
                Command::new(tool).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                return Ok(Err(Missing(format!("`{tool} {}` does not work here", arguments.join(" ")))));
            }
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kafka");
        let listed = work.join("class-path");
        let maven = Command::new("mvn")
            .args(["--batch-mode", "--quiet", "dependency:build-classpath"])
            .arg(format!("-Dmdep.outputFile={}", listed.display()))
            .arg("--file")
            .arg(sources.join("pom.xml"))
            .output()?;
        if !maven.status.success() {
            let said = String::from_utf8_lossy(&maven.stdout).into_owned();
            let why =
                said.lines().find(|line| line.contains("ERROR")).unwrap_or("no reason given").to_owned();
            return Ok(Err(Missing(format!("Maven cannot fetch Kafka: {why}"))));
        }
        let classes = work.join("classes");
        let jars = fs::read_to_string(&listed)?;
        let compiled = Command::new("javac")
            .args(["-nowarn", "-cp", jars.trim(), "-d"])
            .arg(&classes)
            .args(["Adopt.java", "Consume.java"].map(|name| sources.join(name)))
            .output()?;
        ensure!(compiled.status.success(), "javac: {}", String::from_utf8_lossy(&compiled.stderr));
        let class_path = format!("{}:{}", classes.display(), jars.trim());
        Ok(Ok(Self { class_path, work: work.to_owned() }))
    }

    fn java(&self, program: &str) -> Command {
        let mut java = Command::new("java");
        java.args(JVM).args(["-cp", &self.class_path]);
        // Lines of the form `[LEVEL] logger - message`.
        for setting in ["showThreadName=false", "levelInBrackets=true", "showDateTime=false"] {
            java.arg(format!("-Dorg.slf4j.simpleLogger.{setting}"));
        }
        java.arg(program).stdin(Stdio::null()).current_dir(&self.work);
        java
    }

    /// Makes `root` the root of a new cluster that has `topic` with the partition that stands there.
    pub(crate) fn adopt(
        &self,
        properties: &Path,
        root: &Path,
        topic: &str,
        topic_id: &str,
        leader_epoch: i32,
    ) -> Result<()> {
        let mut adopt = self.java("Adopt");
        adopt.arg(properties).arg(root).args([topic, topic_id, &leader_epoch.to_string()]);
        adopt.args(["retention.ms=-1", "segment.bytes=1048576"]);
        let said = adopt.output()?;
        ensure!(said.status.success(), "Adopt: {}", String::from_utf8_lossy(&said.stderr));
        Ok(())
    }

    /// What Kafka's consumer reads: see `Consume.java`.
    pub(crate) fn consume(&self, port: u16, topic: &str) -> Result<String> {
        let said = self.java("Consume").arg(format!("127.0.0.1:{port}")).arg(topic).output()?;
        let text = String::from_utf8(said.stdout)?;
        if !said.status.success() || !text.ends_with("done\n") {
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            bail!("Consume: {}", why.lines().find(|line| line.contains("xception")).unwrap_or("ended early"));
        }
        Ok(text)
    }

    /// What `DumpLogSegments` says of these files, its complaints included.
    pub(crate) fn dump(&self, files: &[PathBuf], options: &[&str]) -> Result<String> {
        let mut list = String::new();
        for file in files {
            write!(list, "{}{}", if list.is_empty() { "" } else { "," }, file.display())?;
        }
        let mut dump = self.java("org.apache.kafka.tools.DumpLogSegments");
        let said = dump.args(options).args(["--files", &list]).output()?;
        let mut text = String::from_utf8(said.stdout)?;
        if !said.status.success() {
            let why = String::from_utf8_lossy(&said.stderr).into_owned();
            bail!(
                "{}",
                why.lines().find(|line| line.contains("xception")).unwrap_or("it failed without a word")
            );
        }
        text.push_str(&String::from_utf8_lossy(&said.stderr));
        Ok(text)
    }

    /// Starts the broker and waits until it serves.
    pub(crate) fn start(&self, properties: &Path, port: u16) -> Result<Broker> {
        let mut process = self
            .java("kafka.Kafka")
            .arg(properties)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the broker")?;
        let stderr = BufReader::new(process.stderr.take().context("the broker's log")?);
        let (started, starts) = channel();
        let log = std::thread::spawn(move || {
            let mut lines = Vec::new();
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("Kafka Server started") {
                    let _ = started.send(());
                }
                lines.push(line);
            }
            lines
        });
        let broker = Broker { process, port, log: Some(log) };
        broker.wait_until_it_serves(&starts)
    }
}

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    pub(crate) port: u16,
    log: Option<JoinHandle<Vec<String>>>,
}

impl Broker {
    fn wait_until_it_serves(mut self, starts: &Receiver<()>) -> Result<Self> {
        if starts.recv_timeout(PATIENCE).is_err() {
            let lines = self.end(Signal::KILL)?;
            let last = lines.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join("\n");
            bail!("the broker did not start:\n{last}");
        }
        Ok(self)
    }

    /// Stops it in order and returns its log.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        self.end(Signal::TERM)
    }

    /// Kills it and returns its log.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        self.end(Signal::KILL)
    }

    fn end(&mut self, signal: Signal) -> Result<Vec<String>> {
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw).context("process id")?;
        kill_process(pid, signal)?;
        // Its log ends when it does.
        let lines = self.log.take().context("ended twice")?.join().ok().context("the log reader panicked")?;
        self.process.wait()?;
        Ok(lines)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two loopback ports that nobody has now: for clients and for the controller.
pub(crate) fn free_ports() -> Result<[u16; 2]> {
    let sockets = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([sockets[0].local_addr()?.port(), sockets[1].local_addr()?.port()])
}

/// Settings of a cluster of one process that is broker and controller, on loopback.
pub(crate) fn server_properties(root: &Path, [port, controller_port]: [u16; 2]) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
",
        root.display()
    )
}
