// The page functions of the host that extensions' scripts call: gradioApp, onUiLoaded, onUiUpdate, onAfterUiUpdate,
// onUiTabChange, onOptionsChanged, onOptionsAvailable, updateInput, opts. Plain script, loaded before all others.
(() => {
  const lists = { update: [], after: [], loaded: [], tab: [], options: [], available: [] };
  const call = (list, ...args) => list.forEach((f) => {
    try { f(...args); } catch (e) { console.error("error in a page callback:", e); }
  });
  globalThis.opts = globalThis.opts || {};
  globalThis.gradioApp = () => document;
  globalThis.get_uiCurrentTab = () => document.querySelector("#tabs button[aria-selected=true]");
  globalThis.get_uiCurrentTabContent = () => document.querySelector("#tab_txt2img");
  globalThis.onUiUpdate = (f) => lists.update.push(f);
  globalThis.onAfterUiUpdate = (f) => lists.after.push(f);
  globalThis.onUiTabChange = (f) => lists.tab.push(f);
  globalThis.onOptionsChanged = (f) => lists.options.push(f);
  globalThis.updateInput = (el) => el.dispatchEvent(new Event("input", { bubbles: true }));

  let loaded = false;
  let available = false;
  globalThis.onUiLoaded = (f) => (loaded ? f() : lists.loaded.push(f));
  globalThis.onOptionsAvailable = (f) => (available ? f() : lists.available.push(f));

  let timer;
  let tab = null;
  const changed = (mutations) => {
    call(lists.update, mutations);
    clearTimeout(timer);
    timer = setTimeout(() => call(lists.after), 200);
    if (!loaded && document.querySelector("#txt2img_prompt")) {
      loaded = true;
      call(lists.loaded);
      fetch("sdapi/v1/options").then((answer) => answer.json()).then((found) => {
        Object.assign(globalThis.opts, found);
        available = true;
        call(lists.available);
        call(lists.options);
      });
    }
    const now = globalThis.get_uiCurrentTab();
    if (now && now !== tab) { tab = now; call(lists.tab); }
  };
  const start = () => new MutationObserver(changed).observe(document.body, { childList: true, subtree: true });
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);

  // Ctrl+Enter or Alt+Enter in a text field generates, as in the host.
  document.addEventListener("keydown", (e) => {
    if (e.key !== "Enter" || !(e.ctrlKey || e.metaKey || e.altKey)) return;
    e.preventDefault();
    document.querySelector("#txt2img_generate")?.click();
  });
})();
