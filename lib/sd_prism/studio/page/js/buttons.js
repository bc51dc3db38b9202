// What the page's buttons do in the browser, in the host's names.
(() => {
  const tabButton = (tabs, panel) => {
    const id = document.getElementById(panel)?.getAttribute("aria-labelledby");
    return document.getElementById(`${panel}-button`) ?? (id && document.getElementById(id));
  };
  const openTab = (tabs, panel) => tabButton(tabs, panel)?.click();
  const items = (gallery) => [...gallery.querySelectorAll(".thumbnail-item")];
  const chosen = (gallery) => items(gallery).findIndex((item) => item.classList.contains("selected"));
  const currentGallery = () => globalThis.get_uiCurrentTabContent()?.querySelector("[id$=_gallery]");

  globalThis.args_to_array = Array.from;
  globalThis.all_gallery_buttons = () => (currentGallery() ? items(currentGallery()) : []);
  globalThis.selected_gallery_button = () => all_gallery_buttons()[selected_gallery_index()] ?? null;
  globalThis.selected_gallery_index = () => (currentGallery() ? chosen(currentGallery()) : -1);
  globalThis.extract_image_from_gallery = (gallery) => {
    if (!gallery?.length) return [null];
    return [[gallery[Math.max(0, selected_gallery_index())] ?? gallery[0]]];
  };

  globalThis.switch_to_txt2img = (...args) => { openTab("tabs", "tab_txt2img"); return args; };
  globalThis.switch_to_pnginfo = (...args) => { openTab("tabs", "tab_pnginfo"); return args; };
  globalThis.switch_to_img2img = (...args) => {
    openTab("tabs", "tab_img2img");
    openTab("mode_img2img", "img2img_img2img_tab");
    return args;
  };
  globalThis.switch_to_inpaint = (...args) => {
    openTab("tabs", "tab_img2img");
    openTab("mode_img2img", "img2img_inpaint_tab");
    return args;
  };
  globalThis.confirm_clear_prompt = (prompt, negative) => (confirm("Delete prompt?") ? ["", ""] : [prompt, negative]);

  // A card of an extra network: its text goes to the end of the prompt, a second click takes it out again. A card
  // for either prompt goes into the one that was last typed in.
  const last = {};
  document.addEventListener("focusin", (event) => {
    const box = event.target.closest?.("[id$=_prompt]");
    const tab = box?.id.match(/^(txt2img|img2img)_(neg_)?prompt$/)?.[1];
    if (tab) last[tab] = box.id;
  });
  const toggle = (id, text) => {
    const box = document.querySelector(`#${id} textarea`);
    if (!box || !text) return;
    box.value = box.value.includes(text) ? box.value.replace(text, "").trim() : `${box.value.trimEnd()} ${text}`.trim();
    updateInput(box);
  };
  globalThis.cardClicked = (tab, prompt, negative, either) => {
    toggle(either && !negative ? last[tab] ?? `${tab}_prompt` : `${tab}_prompt`, prompt);
    toggle(`${tab}_neg_prompt`, negative);
  };
  let desiredCheckpoint = "";
  globalThis.selectCheckpoint = (name) => {
    desiredCheckpoint = name;
    document.getElementById("change_checkpoint").click();
  };
  globalThis.withDesiredCheckpoint = (_, ...sizes) => [desiredCheckpoint, ...sizes];
  document.addEventListener("input", (event) => {
    const search = event.target.closest?.(".extra-network-search");
    if (!search) return;
    const wanted = event.target.value.trim().toLowerCase();
    search.closest(".place").querySelectorAll(".card").forEach((card) => {
      card.hidden = !card.dataset.terms.includes(wanted);
    });
  });

  // Emoji say little: each has a title.
  onAfterUiUpdate(() => Object.entries(globalThis.tooltips).forEach(([id, text]) => {
    const button = document.getElementById(id);
    if (button && !button.title) {
      button.title = globalThis.localization?.[text] ?? text;
      button.setAttribute("aria-label", button.title);
    }
  }));

  // "640x480" pasted into one of the two size fields fills both.
  document.addEventListener("paste", (event) => {
    const field = event.target.closest?.("[id$=_width], [id$=_height]");
    const sizes = event.clipboardData?.getData("text/plain").match(/^\s*(\d+)\D+(\d+)\s*$/);
    const tab = field?.id.match(/^(txt2img|img2img)_(width|height)$/)?.[1];
    if (!tab || !sizes) return;
    event.preventDefault();
    ["width", "height"].forEach((side, i) => {
      const box = document.querySelector(`#${tab}_${side} input[type=number]`);
      box.value = sizes[i + 1];
      updateInput(box);
    });
  });
})();
