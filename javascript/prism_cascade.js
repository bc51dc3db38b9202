// The line of the panel "Prism Cascade": the sizes of what stages C and B draw, and the decoder that will be used.
(() => {
  const ROUTE = "./prism/v1/cascade/model";
  const PANEL = '[id$="_prism_cascade_panel"]';
  const FINEST = 4; // pixels to a side of stage B's latents
  const ADVISED = 128;
  const AUTOMATIC = "Automatic", COMPRESSION = 42; // defaults, which stand for what the checkpoint says

  let known = null; // what the server says of the loaded checkpoint

  const tabOf = (place) => (place.closest(PANEL)?.id.includes("_img2img_") ? "img2img" : "txt2img");
  const inputs = (place) => {
    const tab = tabOf(place);
    const ids = { width: `${tab}_width`, height: `${tab}_height` };
    const own = (name) => `script_${tab}_prism_cascade_${name}`;
    const find = (id, kind) => document.getElementById(id)?.querySelector(kind);
    return {
      width: find(ids.width, "input[type=number]"),
      height: find(ids.height, "input[type=number]"),
      compression: find(own("compression"), "input[type=number]"),
      decoder: find(own("decoder"), "input, textarea"),
    };
  };

  const line = ({ width, height, compression, decoder }) => {
    if (known === null) return "";
    if (!known.cascade) return "The loaded checkpoint is none of Stable Cascade; this panel has nothing to do.";
    // gradio 6 draws what is under "Advanced" when it is opened first; until then it is the default.
    const [across, down, asked] = [width, height, compression ?? { value: COMPRESSION }].map((one) => Number(one?.value) || 0);
    if (!across || !down || !asked) return "";
    const factor = asked === COMPRESSION ? known.compression : asked;
    const size = (by) => `${Math.floor(across / by)}x${Math.floor(down / by)}`;
    const chosen = decoder?.value && decoder.value !== AUTOMATIC ? decoder.value : known.decoder;
    const advice = across % ADVISED || down % ADVISED ? `Sides that are multiples of ${ADVISED} are drawn best` : "";
    return [`Stage C ${size(factor)}, stage B ${size(FINEST)}`, chosen || known.missing, advice].filter(Boolean).join(" · ");
  };

  const draw = () => document.querySelectorAll(".prism-cascade").forEach((place) => {
    const text = line(inputs(place));
    if (place.textContent !== text) place.textContent = text;
  });

  const ask = async () => {
    try {
      const answer = await fetch(ROUTE);
      if (answer.ok) known = await answer.json();
    } catch { /* the line stays as it is until the webui answers */ }
    draw();
  };

  // Tells of values that the page writes by itself, after a paste for example: there is no event for these.
  const watched = new WeakSet();
  const watch = (input) => {
    if (!input || watched.has(input)) return;
    watched.add(input);
    const { get, set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(input), "value");
    Object.defineProperty(input, "value", {
      configurable: true,
      get,
      set(value) { set.call(this, value); queueMicrotask(draw); },
    });
  };

  const seen = new WeakSet();
  const look = () => document.querySelectorAll(".prism-cascade").forEach((place) => {
    Object.values(inputs(place)).forEach(watch);
    if (seen.has(place)) return;
    seen.add(place);
    new IntersectionObserver(([one]) => one.isIntersecting && ask()).observe(place.closest(PANEL) ?? place);
  });

  onAfterUiUpdate(look);
  ["input", "change"].forEach((name) => document.addEventListener(name, draw, true));
  document.addEventListener("click", ({ target }) => {
    if (target.closest?.(PANEL)) ask();
  });
  globalThis.onOptionsChanged?.(() => { // another checkpoint may be there
    if (known) ask();
  });
})();
