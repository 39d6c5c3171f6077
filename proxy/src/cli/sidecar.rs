//! `writ inject`: adds the gate to the pods of a manifest, offline. What is added stands in `sidecar.yaml`.
//!
//! Adding it twice changes nothing. A pod in which the agent could get around the gate is refused, not patched up.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::{Exit, say};

/// What to add the gate to, and from where.
#[derive(Args)]
pub(super) struct Inject {
    /// Manifest with a Pod, Deployment, Job, CronJob, StatefulSet …, one or several documents; `-` for standard input
    #[arg(long, short = 'f')]
    file: PathBuf,
    /// Image of the gate
    #[arg(long, default_value = "writ")]
    image: String,
    /// Image of the fence (target `fence` of the Dockerfile)
    #[arg(long, default_value = "writ-fence")]
    fence_image: String,
    /// Persistent volume claim that keeps the ledger; without one it goes with the pod
    #[arg(long)]
    claim: Option<String>,
}

/// Adds the gate to every pod of a manifest and prints the result.
pub(super) fn inject(what: &Inject) -> Result<Exit> {
    let mut text = String::new();
    if what.file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(&what.file).with_context(|| format!("cannot read `{}`", what.file.display()))?;
    }
    let added = added(what)?;
    let mut documents = Vec::new();
    let mut pods = 0;
    for (number, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
        let name = format!("`{}`, document {}", what.file.display(), number + 1);
        let mut document = Value::deserialize(document).with_context(|| name.clone())?;
        pods += usize::from(into_document(&mut document, &added).with_context(|| name)?);
        if !document.is_null() {
            documents.push(serde_yaml::to_string(&document)?);
        }
    }
    if pods == 0 {
        bail!("`{}` has no pod: {} are understood", what.file.display(), KINDS.map(|(kind, _)| kind).join(", "));
    }
    say(documents.join("---\n").trim_end());
    Ok(Exit::Ok)
}

/// What is to be added, with the images and the claim that were asked for.
fn added(what: &Inject) -> Result<Mapping> {
    let mut added: Mapping = serde_yaml::from_str(SIDECAR)?;
    for container in list(&mut added, "initContainers")? {
        let image = if name_of(container) == Some("writ") { &what.image } else { &what.fence_image };
        mapping(container)?.insert("image".into(), image.as_str().into());
    }
    if let Some(claim) = &what.claim {
        for volume in list(&mut added, "volumes")?.iter_mut().filter(|volume| name_of(volume) == Some("writ-data")) {
            let claim = Mapping::from_iter([("claimName".into(), Value::from(claim.as_str()))]);
            let volume = mapping(volume)?;
            volume.remove("emptyDir");
            volume.insert("persistentVolumeClaim".into(), claim.into());
        }
    }
    Ok(added)
}

/// Whether there was a pod in it. Documents of other kinds stay as they are; lists are gone through.
fn into_document(document: &mut Value, added: &Mapping) -> Result<bool> {
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind == "List" {
        let mut found = false;
        for item in list(mapping(document)?, "items")? {
            found |= into_document(item, added)?;
        }
        return Ok(found);
    }
    let Some((_, path)) = KINDS.iter().find(|(each, _)| *each == kind) else { return Ok(false) };
    let name = document.get("metadata").and_then(name_of).unwrap_or_default().to_owned();
    let mut at = document;
    for key in *path {
        at = at.get_mut(key).with_context(|| format!("`{name}` has no `{}`", path.join(".")))?;
    }
    into_pod(mapping(at)?, added).with_context(|| format!("`{name}`"))?;
    Ok(true)
}

fn into_pod(pod: &mut Mapping, added: &Mapping) -> Result<()> {
    let mut added = added.clone();
    let for_all = added.remove("containers").context("nothing is said of containers")?;
    check_pod(pod)?;
    for key in ["containers", "initContainers"] {
        for container in list(pod, key)?.iter_mut().filter(|each| !is_own(each)) {
            let name = name_of(container).unwrap_or_default().to_owned();
            check_container(container).with_context(|| format!("container `{name}`"))?;
            bind(mapping(container)?)?;
            for part in ["env", "volumeMounts"] {
                let more = for_all.get(part).and_then(Value::as_sequence).cloned().unwrap_or_default();
                put(list(mapping(container)?, part)?, more, false);
            }
        }
    }
    put(list(pod, "initContainers")?, std::mem::take(list(&mut added, "initContainers")?), true);
    put(list(pod, "volumes")?, std::mem::take(list(&mut added, "volumes")?), false);
    Ok(())
}

/// Puts items into a list of named items, each in place of the one of its name; the new ones in front or behind.
fn put(items: &mut Vec<Value>, more: Vec<Value>, in_front: bool) {
    let names: Vec<Option<String>> = more.iter().map(|each| name_of(each).map(str::to_owned)).collect();
    items.retain(|each| !names.iter().any(|name| name.as_deref() == name_of(each)));
    if in_front {
        items.splice(0..0, more);
    } else {
        items.extend(more);
    }
}

/// A pod that shares what keeps the two apart cannot be fenced in.
fn check_pod(pod: &Mapping) -> Result<()> {
    for key in ["hostNetwork", "hostPID", "shareProcessNamespace"] {
        if pod.get(key).and_then(Value::as_bool) == Some(true) {
            bail!("`{key}: true` lets the agent around the gate; take it out");
        }
    }
    let own = pod.get("securityContext").and_then(|context| context.get("runAsUser"));
    if own.and_then(Value::as_u64) == Some(USER) {
        bail!("`runAsUser: {USER}` is the gate's own; give the agent another");
    }
    Ok(())
}

fn check_container(container: &Value) -> Result<()> {
    let Some(context) = container.get("securityContext") else { return Ok(()) };
    if context.get("runAsUser").and_then(Value::as_u64) == Some(USER) {
        bail!("`runAsUser: {USER}` is the gate's own; give the agent another");
    }
    if context.get("privileged").and_then(Value::as_bool) == Some(true) {
        bail!("`privileged: true` lets the agent take the fence down; take it out");
    }
    let granted = context.get("capabilities").and_then(|each| each.get("add")).and_then(Value::as_sequence);
    let granted = granted.into_iter().flatten().filter_map(Value::as_str);
    for capability in granted {
        let plain = capability.trim_start_matches("CAP_");
        if BREAKING.contains(&plain) {
            bail!("the capability `{capability}` lets the agent take the fence down; take it out");
        }
    }
    Ok(())
}

/// Takes from a container what its root would need to become the gate's user or to send past the fence: the usual
/// capabilities hold `SETUID` and `NET_RAW`.
fn bind(container: &mut Mapping) -> Result<()> {
    let context = part(container, "securityContext")?;
    context.insert("allowPrivilegeEscalation".into(), false.into());
    part(context, "capabilities")?.insert("drop".into(), vec![Value::from("ALL")].into());
    Ok(())
}

fn is_own(container: &Value) -> bool {
    name_of(container).is_some_and(|name| name == "writ" || name == "writ-fence")
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

fn mapping(value: &mut Value) -> Result<&mut Mapping> {
    value.as_mapping_mut().ok_or_else(|| anyhow!("what should be a mapping is none"))
}

/// The mapping under `key`, made if it is not there.
fn part<'a>(of: &'a mut Mapping, key: &str) -> Result<&'a mut Mapping> {
    let value = of.entry(key.into()).or_insert_with(|| Mapping::new().into());
    if value.is_null() {
        *value = Mapping::new().into();
    }
    mapping(value)
}

/// The list under `key`, made if it is not there.
fn list<'a>(of: &'a mut Mapping, key: &str) -> Result<&'a mut Vec<Value>> {
    let value = of.entry(key.into()).or_insert_with(|| Value::Sequence(Vec::new()));
    if value.is_null() {
        *value = Value::Sequence(Vec::new());
    }
    value.as_sequence_mut().ok_or_else(|| anyhow!("`{key}` is no list"))
}

/// Kinds with pods, and where their pods are.
const KINDS: [(&str, &[&str]); 8] = [
    ("CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
    ("DaemonSet", &["spec", "template", "spec"]),
    ("Deployment", &["spec", "template", "spec"]),
    ("Job", &["spec", "template", "spec"]),
    ("Pod", &["spec"]),
    ("ReplicaSet", &["spec", "template", "spec"]),
    ("ReplicationController", &["spec", "template", "spec"]),
    ("StatefulSet", &["spec", "template", "spec"]),
];

/// Capabilities with which a container could change the rules of the network or become the gate's user's equal.
const BREAKING: &[&str] =
    &["ALL", "BPF", "NET_ADMIN", "NET_RAW", "SETGID", "SETUID", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE"];

/// The user of the gate in its image.
const USER: u64 = 64321;

const SIDECAR: &str = include_str!("sidecar.yaml");
