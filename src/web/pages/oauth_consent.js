// Sends the person's answer, and follows the redirect of the response: a redirect of a form would
// be subject to the page's policy.
const request = new URLSearchParams(location.search).get("request") ?? "";
const form = document.querySelector("form");
const outcome = document.querySelector("#outcome");

const showRole = () => {
  const chosen = form.querySelector("input[name=organizationId]:checked");
  const lacking = (chosen?.dataset.lacking ?? "").split(" ");
  for (const scope of form.querySelectorAll("input[name=scopes]")) {
    const isLacking = lacking.includes(scope.value);
    scope.disabled = isLacking;
    scope.parentElement.classList.toggle("lacking", isLacking);
    const reason = scope.parentElement.querySelector("[data-reason]");
    if (reason) reason.hidden = !isLacking;
  }
};
form.addEventListener("change", showRole);
showRole();

const follow = ({ redirect, fields }) => {
  if (!fields) {
    location.replace(redirect);
    return;
  }
  const post = document.createElement("form");
  post.method = "post";
  post.action = redirect;
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    input.type = "hidden";
    input.name = name;
    input.value = value;
    post.append(input);
  }
  document.body.append(post);
  post.submit();
};

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const accept = event.submitter?.value === "allow";
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  outcome.textContent = "";
  const fields = new FormData(form);
  const answer = { request, accept };
  if (accept) {
    answer.scopes = fields.getAll("scopes");
    const organization = fields.get("organizationId");
    if (organization) answer.organizationId = organization;
  }
  try {
    const response = await fetch("/oauth2/consent", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(answer),
    });
    const result = await response.json();
    if (response.ok) {
      follow(result);
      return;
    }
    if (response.status === 401) {
      location.replace("/oauth2/sign-in?request=" + encodeURIComponent(request));
      return;
    }
    outcome.textContent = result.error_description ?? "The answer was not accepted.";
  } catch {
    outcome.textContent = "The server did not respond; try again.";
  }
  for (const button of buttons) button.disabled = false;
});
