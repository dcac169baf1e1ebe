/** The page around a stream: shows how it stands, and plays only while it may. */

import { makeClip } from "./clip.mjs";
import { Stream } from "./streams.mjs";

const TITLE = "Dunes at dusk";
const at = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
// What stands behind the # is not sent to any server, nor written into its logs.
const secret = new URLSearchParams(location.hash.slice(1));
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** What is said of a state: [title over the picture, or empty while it plays; text; label of the button]. */
const SAID = {
  idle: () => ["Ready", "Press Play to start.", "Play"],
  starting: () => ["One moment", "Asking whether you may play here …", "Cancel"],
  waiting: ({ detail, retryInMs }) => [
    "Not just now",
    `${sentence(detail)} Trying again in ${Math.max(1, Math.round(retryInMs / 1000))} s.`,
    "Cancel",
  ],
  playing: ({ answer, trouble }) => ["", playingText(answer, trouble), "Stop"],
  lost: ({ detail }) => ["Paused", `${sentence(detail)} It goes on as soon as there is an answer.`, "Stop"],
  refused: ({ refusal }) => ["Not here now", inUse(refusal), "Play"],
  ended: ({ terminatedBy }) =>
    terminatedBy
      ? [
          `Stopped by ${terminatedBy.deviceId}`,
          `It took this place over at ${time(terminatedBy.at)}.`,
          "Play here",
        ]
      : ["This playback is over", "Nothing was heard of this page for too long, and its place is gone.", "Play"],
  failed: ({ status, detail }) => ["This does not work", `${sentence(detail)} (${status})`, "Try again"],
};

function playingText(answer, trouble) {
  if (trouble) return `Playing on, though ${trouble}.`;
  if (answer.degraded) return "Playing. Streams cannot be counted at the moment.";
  return "Playing.";
}

function inUse({ limit, active }) {
  if (limit === 0) return "This account may not play anything at the moment.";
  return active < limit
    ? "What plays elsewhere leaves no room for this."
    : `All places of this account are in use: ${active} of ${limit}.`;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function time(stamp) {
  const then = new Date(stamp);
  return Number.isNaN(then.getTime()) ? stamp : clock.format(then);
}

function thisBrowser() {
  const system = navigator.userAgentData?.platform || /Android|iPhone|iPad|Mac|Windows|Linux/.exec(navigator.userAgent)?.[0];
  return system ? `Browser on ${system}` : "Browser";
}

function show(stream, video) {
  const { state } = stream;
  const [title, text, label] = SAID[state.name](state);
  const playing = state.name === "playing";
  at("veil").hidden = playing;
  at("veil-title").textContent = title;
  at("veil-text").textContent = text;
  say(playing ? text : `${title}. ${text}`);
  at("status").classList.toggle("trouble", Boolean(playing && (state.trouble || state.answer.degraded)));
  at("toggle").textContent = label;
  at("places").hidden = !playing || state.answer.degraded;
  if (playing) at("places").textContent = `${state.answer.active} of ${state.answer.limit} in use`;
  document.body.dataset.state = state.name;
  if (playing) video.play().catch(() => say("The browser will not play by itself: press Stop, then Play."));
  else video.pause();
  if (state.name === "refused") showConflicts(stream);
  else at("conflict").close();
}

/** Say it once: a beat that changes nothing must not be read out. */
function say(text) {
  if (at("status").textContent !== text) at("status").textContent = text;
}

function showConflicts(stream) {
  const { refusal } = stream.state;
  const conflicts = refusal.conflicts ?? [];
  const question = conflicts.length ? " Which shall stop, so that it can play here?" : "";
  at("conflict-text").textContent = inUse(refusal) + question;
  at("conflicts").replaceChildren(...conflicts.map((conflict) => conflictLine(stream, conflict)));
  at("stop-oldest").hidden = conflicts.length === 0;
  const dialog = at("conflict");
  if (!dialog.open) dialog.showModal();
  (at("conflicts").querySelector("button") ?? at("not-now")).focus();
}

function conflictLine(stream, { deviceId, startedAt, metadata, terminationCode }) {
  const line = document.createElement("li");
  const words = document.createElement("div");
  const since = `since ${time(startedAt)}`;
  const what = typeof metadata?.title === "string" ? `${metadata.title}, ` : "";
  words.append(paragraph("device", `Playing on ${deviceId}`), paragraph("since", what + since));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Stop it there";
  button.setAttribute("aria-label", `Playing on ${deviceId} ${since}: stop it there`);
  button.addEventListener("click", () => stream.start({ terminate: [terminationCode] }));
  line.append(words, button);
  return line;
}

function paragraph(name, text) {
  const made = document.createElement("p");
  made.className = name;
  made.textContent = text;
  return made;
}

/** Make the clip, and let go of it with the page: browsers keep no page in the back/forward cache that holds one. */
function loadClip(video) {
  video.srcObject = makeClip();
  window.addEventListener("pagehide", () => {
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
    window.addEventListener("pageshow", () => loadClip(video), { once: true });
  }, { once: true });
}

function run(user) {
  const device = asked.get("device") || thisBrowser();
  const metadata = { title: TITLE };
  if (asked.get("channel")) metadata.channel = asked.get("channel");
  const stream = new Stream({
    service: asked.get("service") || location.origin,
    user,
    device,
    metadata,
    token: () => secret.get("token"),
  });
  const video = at("video");
  loadClip(video);
  at("who").textContent = `${user} on ${device}`;
  document.title = `${device} · ${TITLE}`;
  at("player").hidden = false;
  at("toggle").addEventListener("click", () => {
    if (stream.busy) stream.stop();
    else stream.start();
  });
  at("stop-oldest").addEventListener("click", () => stream.start({ onLimit: "stop_oldest" }));
  at("not-now").addEventListener("click", () => at("conflict").close());
  at("conflict").addEventListener("close", () => at("toggle").focus());
  stream.addEventListener("change", () => show(stream, video));
  stream.follow(window);
  show(stream, video);
  if (asked.has("autoplay")) stream.start();
}

if (asked.get("user")) run(asked.get("user"));
else at("ask").hidden = false;
