/** A clip that is made while it plays: dunes at dusk. It spares the example a binary file. */

const FRAMES_A_SECOND = 25;
const LAYERS = [
  { height: 0.62, swell: 0.07, pace: 0.012, colour: "#8d3b4a" },
  { height: 0.72, swell: 0.06, pace: 0.03, colour: "#5c2a44" },
  { height: 0.84, swell: 0.05, pace: 0.07, colour: "#2c1a31" },
];

/** Return a MediaStream of moving pictures. */
export function makeClip(width = 960, height = 540) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d", { alpha: false });
  const frame = (nowMs) => {
    paint(pen, width, height, nowMs / 1000);
    requestAnimationFrame(frame);
  };
  frame(performance.now());
  return canvas.captureStream(FRAMES_A_SECOND);
}

function paint(pen, width, height, second) {
  const sky = pen.createLinearGradient(0, 0, 0, height * 0.8);
  sky.addColorStop(0, "#1f2a52");
  sky.addColorStop(0.55, "#b3556a");
  sky.addColorStop(1, "#f4b36a");
  pen.fillStyle = sky;
  pen.fillRect(0, 0, width, height);
  const sunX = width * (0.5 + 0.32 * Math.sin(second / 9));
  const sunY = height * (0.42 - 0.06 * Math.cos(second / 4.5));
  pen.fillStyle = "#ffe9b8";
  pen.beginPath();
  pen.arc(sunX, sunY, height * 0.09, 0, 2 * Math.PI);
  pen.fill();
  for (const layer of LAYERS) paintDunes(pen, width, height, second, layer);
}

function paintDunes(pen, width, height, second, { height: top, swell, pace, colour }) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.moveTo(0, height);
  for (let x = 0; x <= width; x += 8) {
    const along = x / width + second * pace;
    const wave = Math.sin(along * 7 + top * 40) + 0.4 * Math.sin(along * 17 + top * 9);
    pen.lineTo(x, height * (top + swell * wave));
  }
  pen.lineTo(width, height);
  pen.fill();
}
