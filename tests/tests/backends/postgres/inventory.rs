//! What is alive at the server, and whose: the adapter's own view, each kind of thing planted by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use hallpass_core::port::{Belongs, CredentialBackend as _, ItemKind, Undone};
use hallpass_core::time::Ttl;
use serde_json::json;

use super::{Adapter, order, server, writer};

#[tokio::test]
async fn the_inventory_tells_ours_from_others_and_finds_the_other_doors() {
    let Some(server) = server().await else { return };
    let adapter = Adapter::of(&server);
    let order = order(1, writer(), adapter.now, adapter.now.plus(Ttl::from_mins(10)));
    adapter.backend.serve(&[Arc::clone(&order.role)]);
    // A bundle that is only tried opens no door.
    let mut tried = order.role.as_ref().clone();
    tried.parameters = json!({"roles": ["elsewhere"]});
    adapter.backend.validate(&tried).expect("the role is right");
    let planned = adapter.backend.plan(&order).expect("it can be planned");
    adapter.backend.issue(&order, &planned).await.expect("it is made");
    let ours = server.roles("hp\\_%").await.pop().expect("a user");
    let grant = order.grant;
    let planted = format!(
        r#"CREATE ROLE direct LOGIN IN ROLE app_writer;
           CREATE ROLE middle NOLOGIN IN ROLE app_writer;
           CREATE ROLE indirect LOGIN IN ROLE middle;
           CREATE ROLE stranger LOGIN;
           CREATE ROLE elsewhere NOLOGIN;
           CREATE ROLE elsewhere_too LOGIN IN ROLE elsewhere;
           CREATE ROLE forged LOGIN;
           COMMENT ON ROLE forged IS '{{"hallpass":"https://broker.test","backend":"orders-db","grant":"{grant}","owner":"o","role":"r","purpose":"p","database":"app"}}';
           CREATE ROLE {other} LOGIN IN ROLE app_writer;
           COMMENT ON ROLE {other} IS '{{"hallpass":"https://other.test","backend":"orders-db","grant":"{grant}","owner":"o","role":"r","purpose":"p","database":"app"}}'"#,
        other = ours.replace("hp_payments", "hp_other"),
    );
    server.run("postgres", &planted).await;
    let items = adapter.backend.inventory().await.expect("the server answers");
    let seen: BTreeMap<_, _> = items.iter().map(|item| (item.name.clone(), (item.kind, item.belongs))).collect();
    let expected = BTreeMap::from([
        (ours.clone(), (ItemKind::Credential, Belongs::ToGrant(grant))),
        (ours.replace("hp_payments", "hp_other"), (ItemKind::Credential, Belongs::ToOthers)),
        ("direct".to_owned(), (ItemKind::Door, Belongs::ToOthers)),
        ("indirect".to_owned(), (ItemKind::Door, Belongs::ToOthers)),
    ]);
    assert_eq!(seen, expected);
    for item in items {
        assert_eq!(item.handle.is_some(), item.name == ours, "only what is ours can be undone");
        if let Some(handle) = item.handle {
            assert_eq!(adapter.backend.revoke(&handle).await, Ok(Undone::Gone));
        }
    }
    assert!(server.roles(&ours).await.is_empty());
    assert_eq!(server.roles("direct").await, ["direct"], "what is not ours stays");
}
