//! What a consumer that knows nothing of Homeward sees of a message.

use homeward::alert::proto::v1::{Alert, AlertBatch, Area, Text};
use homeward::model::{App, BatchFormat, BatchId, Kind};
use homeward::queue::{AppQueue as _, Message};
use lapin::options::BasicCancelOptions;
use lapin::types::ShortString;
use prost::Message as _;
use serde_json::{Value, json};

use crate::common::broker::{Bare, next_of};
use crate::common::queues::{LONG, QUEUE, Rabbit, app, in_rabbitmq, next, put, read};

const KINDS: [Kind; 4] = [Kind::Issue, Kind::Update, Kind::Recall, Kind::Test];
/// Bigger than what JSON's numbers hold exactly.
const CELL: u64 = 0x0891_976b_b667_ffff;

/// A batch with everything that is easily spoilt on the way.
fn batch() -> (BatchId, AlertBatch) {
    let id = BatchId::fresh();
    let batch = AlertBatch {
        batch_id: id.to_string(),
        alert: Some(Alert {
            alert_id: "01a1fe1a-6fda-72bf-99f1-a75b8637062e".into(),
            revision: 3,
            texts: vec![Text {
                language: "de".into(),
                title: "Vermisst: \"Jörg\"".into(),
                ..Text::default()
            }],
            area: Some(Area {
                cells: vec![CELL],
                centre_lat: 57.1,
                centre_lon: -2.1,
                radius_m: 500.0,
            }),
            ..Alert::default()
        }),
        tokens: vec![b"device-1".to_vec(), vec![0, 255]],
    };
    (id, batch)
}

#[tokio::test]
async fn its_properties_say_what_it_is() {
    in_rabbitmq(properties).await;
}

async fn properties(rabbit: Rabbit) {
    let (id, batch) = batch();
    let bare = Bare::at(&rabbit.vhost.url()).await;
    for (format, content_type) in [
        (BatchFormat::Protobuf, "application/x-protobuf"),
        (BatchFormat::Json, "application/json"),
    ] {
        let app = App {
            format,
            ..app(100_000)
        };
        rabbit.queue.open(&app).await.unwrap();
        let sent = KINDS.map(|kind| Message {
            id,
            kind,
            body: batch.encode_to_vec(),
            life: LONG,
        });
        put(&*rabbit.queue, &app, &sent).await;
        let mut consumer = bare.consume(QUEUE, 4).await;
        for kind in KINDS {
            let message = next_of(&mut consumer).await;
            let is = &message.properties;
            let text = |property: &Option<ShortString>| property.as_ref().map(ToString::to_string);
            assert_eq!(text(is.message_id()), Some(id.to_string()));
            assert_eq!(text(is.kind()), Some(format!("alert.{}", kind.name())));
            assert_eq!(text(is.content_type()).as_deref(), Some(content_type));
            assert_eq!(text(is.expiration()), Some(LONG.as_millis().to_string()));
            assert_eq!(text(is.app_id()).as_deref(), Some("homeward"));
            assert_eq!(is.delivery_mode(), &Some(2), "kept on disk");
            assert_eq!(message.exchange.as_str(), "homeward.alerts");
            assert_eq!(
                message.routing_key.as_str(),
                format!("nearby.{}", kind.name())
            );
            let json = serde_json::from_slice::<Value>(&message.data);
            match format {
                BatchFormat::Protobuf => assert_eq!(message.data, batch.encode_to_vec()),
                BatchFormat::Json => looks_like_the_batch(&json.unwrap(), id),
            }
            crate::common::broker::ack(&message).await;
        }
        let tag = consumer.tag();
        bare.channel
            .basic_cancel(tag, BasicCancelOptions::default())
            .await
            .unwrap();
    }
}

/// As protobuf's JSON form has it: names in camel case, bytes in base64, long numbers as text.
fn looks_like_the_batch(json: &Value, id: BatchId) {
    assert_eq!(json["batchId"], json!(id.to_string()));
    assert_eq!(json["tokens"], json!(["ZGV2aWNlLTE=", "AP8="]));
    assert_eq!(json["alert"]["revision"], 3);
    assert_eq!(json["alert"]["texts"][0]["title"], "Vermisst: \"Jörg\"");
    assert_eq!(json["alert"]["area"]["cells"], json!([CELL.to_string()]));
}

#[tokio::test]
async fn a_reader_gets_the_same_in_either_form() {
    in_rabbitmq(either).await;
}

/// The app may change its mind while batches are on their way.
async fn either(rabbit: Rabbit) {
    let reader = read(&*rabbit.queue, 4);
    for format in [BatchFormat::Json, BatchFormat::Protobuf, BatchFormat::Json] {
        let app = App {
            format,
            ..app(100_000)
        };
        rabbit.queue.open(&app).await.unwrap();
        let (id, batch) = batch();
        let body = batch.encode_to_vec();
        let (kind, life) = (Kind::Issue, LONG);
        put(
            &*rabbit.queue,
            &app,
            &[Message {
                id,
                kind,
                body,
                life,
            }],
        )
        .await;
        let got = next(&*reader).await;
        assert_eq!(got.id, id);
        assert_eq!(AlertBatch::decode(got.body.as_slice()).unwrap(), batch);
        got.ack();
    }
}
