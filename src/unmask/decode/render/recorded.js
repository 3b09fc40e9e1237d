"use strict";
// The start of a page with a recorded decode; #step=12 opens it there, paused.
(() => {
  const {stops, ...data} = JSON.parse(document.getElementById("data").textContent), root = document.getElementById("player");
  const player = createPlayer(root, {stops}), asked = /step=(\d+)/.exec(location.hash);
  shareWith(root, player, stops, () => `${location.href.split("#")[0]}#step=${player.step()}`);
  player.load(data, asked ? Number(asked[1]) : matchMedia("(prefers-reduced-motion: reduce)").matches ? null : 0);
  if (!asked && player.step() === 0) player.toggle();
})();
