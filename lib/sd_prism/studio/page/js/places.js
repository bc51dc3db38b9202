// gradio makes a tab's content when the tab is first opened; the host has all of it from the start, and extensions
// look for it. So each tab of the page's own is opened once behind a veil, before anything is told that the page is
// there. The sections of the settings are opened when the settings are, for there are many.
(() => {
  const PATIENCE = 5000; // milliseconds to wait for one tab
  const soon = () => new Promise((done) => setTimeout(done, 10));
  const made = async (find) => {
    const end = performance.now() + PATIENCE;
    while (!find() && performance.now() < end) await soon();
    return find();
  };
  const visit = async (tabs) => {
    const buttons = [...tabs.querySelectorAll(":scope > .tab-wrapper .tab-container[role=tablist] > button[role=tab]")];
    const first = buttons.find((button) => button.ariaSelected === "true");
    for (const button of buttons) {
      button.click();
      const panel = () => document.getElementById(button.getAttribute("aria-controls"));
      const content = await made(() => panel()?.querySelector(":scope .place > *") && panel());
      const nested = [...(content?.querySelectorAll(".tabs") ?? [])];
      const inner = nested.filter((one) => one.id !== "settings" && one.parentElement.closest(".tabs") === tabs);
      for (const one of inner) await visit(one);
    }
    first?.click();
  };
  globalThis.openAllPlaces = async () => {
    const tabs = await made(() => document.querySelector("#tabs button[role=tab]") && document.getElementById("tabs"));
    await visit(tabs);
    document.documentElement.classList.remove("opening");
    document.getElementById("tab_settings-button")?.addEventListener("click", async () => {
      const settings = document.getElementById("settings");
      settings.classList.add("opening");
      await visit(settings);
      settings.classList.remove("opening");
    }, { once: true });
  };
  document.documentElement.classList.add("opening");
})();
