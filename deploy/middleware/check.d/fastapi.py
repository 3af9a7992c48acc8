"""The program with which ../check tests ../fastapi.py, which it copies next to this one as tenantry.py."""
import os

from fastapi import APIRouter, Depends, FastAPI

from tenantry import Verdict, tenantry

app = FastAPI()
MISTAKES = {"no scope": [], "no list": [[]], "an empty list": [[[]]], "not a scope": ["docs:read docs:write"]}
if "MISTAKE" in os.environ:
    tenantry.require(*MISTAKES[os.environ["MISTAKE"]])
behind_all = APIRouter(dependencies=[Depends(tenantry())])


def show(caller: Verdict):
    return {"organization": caller.organization["id"], "key": caller.key["id"], "scopes": caller.scopes}


@app.get("/docs/{id}")
def docs(caller: Verdict = Depends(tenantry.require("docs:read"))):
    return show(caller)


@app.get("/both")
def both(caller: Verdict = Depends(tenantry.require("docs:read", "docs:write"))):
    return show(caller)


@app.get("/either")
async def either(caller: Verdict = Depends(tenantry.require([["docs:write"], ["docs:read"]]))):
    return show(caller)


@behind_all.get("/any")
def any_key(caller: Verdict = Depends(tenantry())):
    return show(caller)


@behind_all.get("/twice")
def twice(caller: Verdict = Depends(tenantry.require("docs:read"))):
    return show(caller)


app.include_router(behind_all)
