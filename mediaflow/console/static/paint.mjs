// One place where the page is painted: whatever happened in between, a painter runs once a frame, and frames
// keep a distance. `work` counts, so that a test can tell how much is done for how many events.

export const work = {events: 0, batches: 0, frames: 0, paints: 0};

const GAP_MS = 80;
const due = new Set();
let asked = false;

/** Have a painter run with the next frame; asked for again before that, it runs once all the same. */
export function later(painter) {
  due.add(painter);
  if (asked) return;
  asked = true;
  setTimeout(() => requestAnimationFrame(run), GAP_MS);
}

function run() {
  asked = false;
  work.frames += 1;
  const painters = [...due];
  due.clear();
  for (const painter of painters) {
    work.paints += 1;
    painter();
  }
}
