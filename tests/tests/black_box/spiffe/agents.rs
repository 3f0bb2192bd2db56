//! An agent is known by its X.509-SVID, and acts for a job over the connection that it shows it in.

use super::*;

const AGENT: &str = "spiffe://td1.test/agents/fixer";

const POLICIES: &str = r#"
@id("the-fixer-acts-for-jobs")
permit (principal is Agent, action == Action::"delegate", resource is Role)
when {
  principal.subject == "spiffe://td1.test/agents/fixer" && context has on_behalf_of && context.on_behalf_of.issuer == "ci" &&
  context has task
};

@id("agents-keep-and-end-their-own")
permit (principal is Agent, action in [Action::"read", Action::"revoke"], resource is Grant)
when { context.holder };
"#;

/// A broker that knows the workloads of `td1.test` as agents.
async fn house(root: &Authority, keys: &[Value]) -> Domain {
    let bundle = TempDir::with_prefix("hallpass-bundle-").expect("a temporary folder");
    let from = json!({"bundle_file": bundle.path().join("td1.json"), "principal": "agent"});
    publish(&bundle, &[root], keys);
    Domain::open_from(bundle, from, |setup| setup.policy("agents.cedar", POLICIES)).await
}

fn job(house: &Domain) -> String {
    house.key.sign(&house.issuer.claims(AUDIENCE, crate::WORKLOAD))
}

fn by_certificate() -> Value {
    let task = "find out why 4f2c fails, and mend it";
    json!({"role": ROLE, "purpose": "repair the build", "task": task, "actor_certificate": true})
}

#[tokio::test]
async fn an_agent_acts_for_a_job_by_the_certificate_that_it_shows() {
    let root = Authority::new("td1");
    let key = SigningKey::es256("jwt-1");
    let house = house(&root, &[jwt_authority(&key)]).await;
    let shown = root.svid(AGENT);
    let agent = house.client(Some(&shown));
    let me = agent.get("/v1/whoami").await;
    assert_eq!((me.status, &me.body["kind"]), (200, &json!("agent")), "{}", me.text);

    let opened = agent.post_as("/v1/grants", &by_certificate(), Some(&job(&house))).await;
    opened.assert_status(201);
    let grant = &opened.body["grant"];
    assert_eq!(grant["identity"]["subject"], crate::WORKLOAD, "for whom");
    assert_eq!(grant["actors"], json!([{"issuer": "prod", "kind": "agent", "subject": AGENT}]), "by whom");
    let rules = grant["decision"]["determining_policies"].clone();
    assert_eq!(rules, json!(["the-fixer-acts-for-jobs", "workloads-mint"]), "both were asked");
    let entry = house.audit_of(&opened);
    let by = format!("\"actor\":{{\"type\":\"identity\",\"issuer\":\"prod\",\"subject\":\"{AGENT}\"}}");
    let of =
        format!("\"on_behalf_of\":{{\"type\":\"identity\",\"issuer\":\"ci\",\"subject\":\"{}\"}}", crate::WORKLOAD);
    assert!(entry.contains(&by) && entry.contains(&of), "{entry}");

    // The agent's next certificate holds the grant. Its token does not, which others may have seen, nor does another agent.
    let path = format!("/v1/grants/{}", opened.grant_id());
    let next = house.client(Some(&root.svid(AGENT)));
    next.get(&path).await.assert_status(200);
    let nobody = house.client(None);
    let bearer = jwt_svid(&house.issuer, &key, AGENT);
    let other = house.client(Some(&root.svid("spiffe://td1.test/agents/reader")));
    let end = format!("{path}/revoke");
    assert_eq!(nobody.post_as(&end, &json!({}), Some(&bearer)).await.status, 404);
    assert_eq!(other.post(&end, &json!({})).await.status, 404);
    assert_eq!(house.broker.store().state(opened.grant_id()), "active");
    next.post(&end, &json!({})).await.assert_status(202);
}

#[tokio::test]
async fn where_policy_or_the_certificate_says_no_nobody_acts() {
    let (root, stranger) = (Authority::new("td1"), Authority::new("td1"));
    let house = house(&root, &[]).await;
    let (shown, with_task) = (root.svid(AGENT), by_certificate());
    let mut without_task = with_task.clone();
    without_task.as_object_mut().expect("an object").remove("task");
    let with = |name: &str, value: Value| {
        let mut body = with_task.clone();
        body[name] = value;
        body
    };
    let closed = with("role", json!(hallpass_tests::config::CLOSED_ROLE));
    let both = with("actor_token", json!("a.b.c"));
    let agent = || house.client(Some(&shown));
    let reader = || house.client(Some(&root.svid("spiffe://td1.test/agents/reader")));
    let unknown = || house.client(Some(&stranger.svid(AGENT)));
    for (what, client, body, of_job, status, reason) in [
        ("another agent", reader(), &with_task, true, 403, "policy_denied"),
        ("no task", agent(), &without_task, true, 403, "policy_denied"),
        ("the job itself may not", agent(), &closed, true, 403, "policy_denied"),
        ("nobody of the trust domain signed it", unknown(), &with_task, true, 401, "bad_svid"),
        ("for itself", agent(), &with_task, false, 401, "not_allowed_actor"),
        ("no certificate", house.client(None), &with_task, true, 422, "malformed_request"),
        ("two act", agent(), &both, true, 422, "malformed_request"),
    ] {
        let control = agent().post_as("/v1/grants", &with_task, Some(&job(&house))).await;
        assert_eq!(control.status, 201, "void: the control before {what}: {}", control.text);
        let before = house.broker.store().grant_count();
        let proof = of_job.then(|| job(&house));
        let refused = client.post_as("/v1/grants", body, proof.as_deref()).await;
        let reasons = house.broker.store().reasons_of(refused.request_id());
        assert_eq!((refused.status, reasons), (status, vec![reason.to_owned()]), "{what}: {}", refused.text);
        assert_eq!(house.broker.store().grant_count(), before, "{what}");
    }
    // Alone it is an agent, whom nobody lets mint.
    let alone = agent().post("/v1/grants", &wanted()).await;
    assert_eq!(house.broker.store().reasons_of(alone.request_id()), ["policy_denied"], "{}", alone.text);

    // Its authority leaves the bundle: on the connection that it keeps it acts no more.
    let kept = agent();
    kept.post_as("/v1/grants", &with_task, Some(&job(&house))).await.assert_status(201);
    publish(&house.bundle, &[&stranger], &[]);
    let refused = eventually("it is believed no more", DEADLINE, async || {
        let answer = kept.post_as("/v1/grants", &with_task, Some(&job(&house))).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_eq!(house.broker.store().reasons_of(refused.request_id()), ["bad_svid"], "{}", refused.text);
}
