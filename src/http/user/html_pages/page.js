// The token leaves the address bar at once, so that it is in no history and no referrer.
const token = new URLSearchParams(location.search).get("token") ?? "";
history.replaceState(null, "", location.pathname);
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  outcome.textContent = "";
  const fields = Object.fromEntries(new FormData(form));
  try {
    const response = await fetch(location.pathname, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(token ? { token, ...fields } : fields),
    });
    const answer = await response.json();
    const hidden = form.querySelectorAll("[hidden]");
    if (answer.code === "AUTHENTICATION_REQUIRED" && hidden.length) {
      // Nobody is signed in here: what is needed instead is asked for.
      for (const element of hidden) element.hidden = false;
      const field = form.querySelector("input[disabled]");
      field.disabled = button.disabled = false;
      field.focus();
      return;
    }
    const errors = answer.meta?.errors ?? [];
    const why = errors.map((it) => (it.field === "newPassword" ? "The password " : "") + it.error);
    outcome.textContent = answer.success || !why.length ? answer.message : why.join("; ");
    button.disabled = answer.success;
    if (answer.success) form.hidden = true;
    if (answer.data?.key) {
      const key = document.createElement("code");
      key.textContent = answer.data.key;
      outcome.append(document.createElement("br"), key);
    }
    if (answer.data?.callbackURL) location.assign(answer.data.callbackURL);
  } catch {
    outcome.textContent = "The server did not answer; try again.";
    button.disabled = false;
  }
});
