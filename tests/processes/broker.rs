//! RabbitMQ: a server of a test's own that it may break, or a virtual host on one that all share.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::house::{SOON, signal};

const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/ops/services");

/// `ops/services` on a folder.
fn services(folder: &Path, command: &str, arguments: &[&str]) -> Output {
    let mut program = Command::new(SERVICES);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOMEWARD_") {
            program.env_remove(name);
        }
    }
    program
        .args([command, "--dir"])
        .arg(folder.join("services"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A RabbitMQ of a test's own. It goes with the test.
pub struct Broker {
    folder: TempDir,
    /// Its only virtual host. It stays the same when the broker is started again.
    pub host: Vhost,
}

impl Broker {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It runs as a user of its own, who has to get in.
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let settings = up(folder.path()).await;
        let setting = |name: &str| {
            let line = settings.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .strip_prefix('=')
                .unwrap()
                .trim_matches('\'')
                .to_owned()
        };
        Self {
            host: Vhost {
                name: "/".to_owned(),
                url: setting("HOMEWARD_TEST_AMQP_URL"),
                management_url: setting("HOMEWARD_TEST_AMQP_MANAGEMENT_URL"),
                http: client(),
            },
            folder,
        }
    }

    /// Starts it again, where it was, with the data that it has.
    pub async fn up(&self) {
        let settings = up(self.folder.path()).await;
        assert!(
            settings.contains(&self.host.url),
            "it moved to another port: {settings}"
        );
    }

    /// Stops it in good order.
    pub async fn down(&self) {
        self.run("down", &["rabbitmq"]).await;
    }

    /// Ends it and deletes everything that it had.
    pub async fn wipe(&self) {
        self.run("down", &["--wipe", "rabbitmq"]).await;
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        let process = self.run("pid", &["rabbitmq"]).await;
        signal("KILL", process.trim().parse().unwrap());
    }

    /// Has it write down which queues there are. It does so by itself some seconds after one is declared; one
    /// that it has not written down comes back empty and without a leader if it is killed.
    pub async fn write_down_its_queues(&self) {
        let said = self
            .ctl(&["eval", "dets:sync(ra_directory_reverse)."])
            .await;
        assert_eq!(said.trim(), "ok");
    }

    /// Has it take nothing for want of memory, or take messages again.
    pub async fn alarm(&self, raised: bool) {
        let mark = if raised { "0.0000001" } else { "0.6" };
        self.ctl(&["set_vm_memory_high_watermark", mark]).await;
    }

    /// Runs `rabbitmqctl`; gives what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        self.run("ctl", &[&["rabbitmqctl"], arguments].concat())
            .await
    }

    async fn run(&self, command: &'static str, arguments: &[&str]) -> String {
        let folder = self.folder.path().to_owned();
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            said(&services(&folder, command, &arguments))
        };
        spawn_blocking(run).await.unwrap()
    }
}

async fn up(folder: &Path) -> String {
    let folder = folder.to_owned();
    spawn_blocking(move || said(&services(&folder, "up", &["rabbitmq"])))
        .await
        .unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        services(self.folder.path(), "down", &["--wipe", "rabbitmq"]);
    }
}

/// What `ops/services up` says of the broker that tests share.
fn setting(name: &str) -> String {
    let none = "is not set: run ./ops/test, or eval $(ops/services up rabbitmq)";
    std::env::var(name).unwrap_or_else(|_| panic!("{name} {none}"))
}

fn client() -> Client {
    Client::builder().timeout(SOON).build().unwrap()
}

/// A virtual host of a RabbitMQ, and how to look into it behind Homeward's back.
pub struct Vhost {
    name: String,
    /// For `HOMEWARD_AMQP_URL`.
    pub url: String,
    /// For `HOMEWARD_AMQP_MANAGEMENT_URL`.
    pub management_url: String,
    http: Client,
}

impl Vhost {
    /// A fresh one on the broker that tests share.
    pub async fn fresh() -> Self {
        let name = format!("test-{}", Uuid::now_v7().simple());
        let url = setting("HOMEWARD_TEST_AMQP_URL");
        let (server, _) = url.rsplit_once('/').unwrap();
        let url: Url = format!("{server}/{name}").parse().unwrap();
        let host = Self {
            url: url.to_string(),
            management_url: setting("HOMEWARD_TEST_AMQP_MANAGEMENT_URL"),
            http: client(),
            name,
        };
        host.ask(Method::PUT, "vhosts", "", None).await;
        let all =
            json!({ "configure": "^homeward\\.", "write": "^homeward\\.", "read": "^homeward\\." });
        host.ask(Method::PUT, "permissions", url.username(), Some(&all))
            .await;
        host
    }

    /// The URL that goes over TLS, and the file of the authority that signed the certificate.
    pub fn tls(&self) -> (String, String) {
        let url = setting("HOMEWARD_TEST_AMQPS_URL");
        let (server, _) = url.rsplit_once('/').unwrap();
        let url = format!("{server}/{}", self.name);
        (url, setting("HOMEWARD_TEST_AMQP_CA"))
    }

    /// Removes it after a test that has passed.
    pub async fn remove(self) {
        self.ask(Method::DELETE, "vhosts", "", None).await;
    }

    /// Asks the management API about something in this virtual host.
    pub async fn ask(&self, method: Method, kind: &str, path: &str, body: Option<&Value>) -> Value {
        let name = self.name.replace('/', "%2F");
        let path = format!("{kind}/{name}/{path}");
        self.ask_broker(method, path.trim_end_matches('/'), body)
            .await
    }

    async fn ask_broker(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}/api/{path}", self.management_url);
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Everything that was declared on the broker, without any message.
    pub async fn definitions(&self) -> Value {
        self.ask_broker(Method::GET, "definitions", None).await
    }

    pub async fn define(&self, definitions: &Value) {
        self.ask_broker(Method::POST, "definitions", Some(definitions))
            .await;
    }

    pub async fn delete_queue(&self, queue: &str) {
        self.ask(Method::DELETE, "queues", queue, None).await;
    }

    /// Takes messages from a queue as an app that does not want them: they go to the dead letters.
    pub async fn refuse(&self, queue: &str, count: usize) -> Vec<Value> {
        let refuse =
            json!({ "count": count, "encoding": "base64", "ackmode": "reject_requeue_false" });
        let path = format!("{queue}/get");
        let taken = self.ask(Method::POST, "queues", &path, Some(&refuse)).await;
        taken.as_array().unwrap().clone()
    }

    pub async fn connect(&self) -> Connection {
        Connection::connect(&self.url, ConnectionProperties::default())
            .await
            .unwrap()
    }

    /// How many messages wait in a queue, which must exist.
    pub async fn waiting(&self, connection: &Connection, queue: &str) -> u32 {
        let channel = connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions::durable().passive();
        let declared = channel
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await
            .unwrap();
        channel.close(200, "OK".into()).await.unwrap();
        declared.message_count()
    }
}
