// The line of the panel "Prism Cascade": the sizes of what stages C and B draw, and the decoder that will be used.
(() => {
  const ROUTE = "./prism/v1/cascade/model";
  const PANEL = '[id$="_prism_cascade_panel"]';
  const FINEST = 4; // pixels to a side of stage B's latents
  const ADVISED = 128;
  const AUTOMATIC = "Automatic", COMPRESSION = 42; // defaults, which stand for what the checkpoint says

  const PICTURES = '[id$="_prism_cascade_pictures"], [id$="_prism_cascade_images"], [id$="_prism_cascade_image_strength"]';
  const unseen = () => prismSay(
    "This checkpoint has no vision encoder, which image prompts need; put it beside it as {file} and load it again.",
    { file: "image_encoder/model.safetensors" },
  );

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
      ofFile: find(own("file_compression"), "input"),
      decoder: find(own("decoder"), "input, textarea"),
    };
  };

  const line = ({ width, height, compression, ofFile, decoder }) => {
    if (known === null) return "";
    if (!known.cascade) return prismSay("The loaded checkpoint is none of Stable Cascade; this panel has nothing to do.");
    // gradio 6 draws what is under "Advanced" when it is opened first; until then it is the default.
    const [across, down, asked] = [width, height, compression ?? { value: COMPRESSION }].map((one) => Number(one?.value) || 0);
    if (!across || !down || !asked) return "";
    const factor = asked === COMPRESSION && (ofFile?.checked ?? true) ? known.compression : asked;
    const size = (by) => `${Math.floor(across / by)}x${Math.floor(down / by)}`;
    const chosen = decoder?.value && decoder.value !== AUTOMATIC ? decoder.value : known.decoder;
    const uneven = across % ADVISED || down % ADVISED;
    const advice = uneven ? prismSay("Sides that are multiples of {side} are drawn best", { side: ADVISED }) : "";
    const sizes = prismSay("Stage C {c}, stage B {b}", { c: size(factor), b: size(FINEST) });
    return [sizes, chosen || known.missing, advice].filter(Boolean).join(" · ");
  };

  const write = (place, text) => {
    if (place.textContent !== text) place.textContent = text;
  };
  const draw = () => {
    document.querySelectorAll(".prism-cascade").forEach((place) => write(place, line(inputs(place))));
    const blind = Boolean(known?.cascade && !known.vision);
    document.querySelectorAll(".prism-cascade-blind").forEach((place) => write(place, blind ? unseen() : ""));
    document.querySelectorAll(PICTURES).forEach((one) => one.classList.toggle("prism-blind", blind));
  };

  let asked = 0;
  const ask = async () => {
    const turn = ++asked;
    try {
      const answer = await fetch(ROUTE);
      const told = answer.ok ? await answer.json() : known;
      if (turn === asked) known = told; // a later question may have been answered first
    } catch { /* the line stays as it is until the webui answers */ }
    draw();
  };
  globalThis.prismCascadeAsk = ask; // for the button that looks for files anew

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
