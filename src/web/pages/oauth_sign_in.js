// Signs in, then goes to the page that asks for consent, or to the one for a device's code. Only the
// handle of the request or that code is kept.
const parameters = new URLSearchParams(location.search);
const request = parameters.get("request") ?? "";
const next = request || !parameters.has("user_code")
  ? "/oauth2/consent?request=" + encodeURIComponent(request)
  : "/device?user_code=" + encodeURIComponent(parameters.get("user_code"));
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  outcome.textContent = "";
  try {
    const response = await fetch("/api/auth/sign-in/email", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    const result = await response.json();
    if (result.success) {
      location.replace(next);
      return;
    }
    const errors = (result.meta?.errors ?? []).map((it) => it.error);
    outcome.textContent = errors.length ? errors.join("; ") : result.message;
  } catch {
    outcome.textContent = "The server did not respond; try again.";
  }
  button.disabled = false;
});
