// Interrupt and Skip in place of Generate, progress bar, time left and live preview while a job runs.
(() => {
  const PERIOD = 500; // milliseconds between two questions, unless the settings say otherwise
  const show = (id, on) => { const e = document.getElementById(id); if (e) e.style.display = on ? "block" : "none"; };
  const buttons = (tab, running, interrupting = false) => {
    show(`${tab}_interrupt`, running && !interrupting);
    show(`${tab}_interrupting`, interrupting);
    show(`${tab}_skip`, running);
  };
  globalThis.showSubmitButtons = (tab, idle) => buttons(tab, !idle);
  globalThis.showSubmitInterruptingPlaceholder = (tab) => buttons(tab, true, true);
  globalThis.randomId = () => `task(${Math.random().toString(36).slice(2, 9)}${Math.random().toString(36).slice(2, 9)})`;

  const clock = (seconds) => {
    const s = Math.max(1, Math.round(seconds));
    const two = (n) => String(n).padStart(2, "0");
    if (s >= 3600) return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
    return s >= 60 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${s}s`;
  };
  const words = (answer) => {
    if (answer.textinfo && !answer.active) return answer.textinfo;
    const done = `${Math.floor((answer.progress ?? 0) * 100)}%`;
    const left = answer.eta ? ` ETA: ${clock(answer.eta)}` : "";
    return answer.textinfo && !answer.textinfo.includes("\n") ? `${done}${left} ${answer.textinfo}` : done + left;
  };
  const make = (parent, name) => {
    const element = document.createElement("div");
    element.className = name;
    parent.appendChild(element);
    return element;
  };

  // Asks for job `id` until it is over; `place` gets the bar and the preview, on top of what it shows.
  globalThis.requestProgress = (id, place, gallery, atEnd, onProgress) => {
    const title = document.title;
    const bar = make(place, "progressDiv");
    const line = make(bar, "progress");
    let preview = null;
    let seen = -1;
    const end = () => {
      bar.remove();
      preview?.remove();
      document.title = title;
      atEnd();
    };
    const ask = async () => {
      let answer;
      try {
        const body = JSON.stringify({ id_task: id, id_live_preview: seen });
        const headers = { "Content-Type": "application/json" };
        answer = await (await fetch("internal/progress", { method: "POST", headers, body })).json();
      } catch {
        end();
        return;
      }
      if (answer.completed) { end(); return; }
      line.style.width = `${(answer.progress ?? 0) * 100}%`;
      line.textContent = words(answer);
      if (answer.active && answer.progress) document.title = `[${words(answer)}] ${title}`;
      if (answer.live_preview) {
        preview ??= make(place, "livePreview");
        const image = new Image();
        image.alt = "Live preview";
        image.src = answer.live_preview;
        preview.replaceChildren(image);
        seen = answer.id_live_preview;
      }
      onProgress?.(answer);
      setTimeout(ask, Math.min(PERIOD, globalThis.opts.live_preview_refresh_period ?? PERIOD));
    };
    ask();
  };

  const chosenTab = (id) => document.querySelector(`#${id} button[role=tab][aria-selected=true]`)?.dataset.tabId;
  const submit = (tab, args) => {
    const id = globalThis.randomId();
    buttons(tab, true);
    globalThis.requestProgress(id, document.getElementById(`${tab}_gallery_container`), null, () => buttons(tab, false));
    return [id, ...args.slice(1)];
  };
  globalThis.submit = (...args) => submit("txt2img", args);
  // The first arguments after the task's are the chosen tabs: how the picture is given, and how its size is.
  globalThis.submit_img2img = (task, ...args) => submit("img2img", [task, ...withImg2imgTabs(...args)]);
  globalThis.withImg2imgTabs = (mode, scale, ...args) =>
    [chosenTab("mode_img2img"), chosenTab("img2img_tabs_resize"), ...args];
})();
